"""Ingest publishes a complete extract or none, under the quarantine policy."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import polars as pl
import pytest

from flowsheet.cohort.extract import Extract, check_extract, read_oracle
from flowsheet.cohort.ingest import ingest, make_source
from flowsheet.cohort.schema import TABLES, Tables
from flowsheet.cohort.sources.base import Source, StayBatch
from flowsheet.compose import compose_cohort
from flowsheet.config import CohortConfig, QuarantineConfig
from flowsheet.errors import CheckFailed, FlowsheetError, UsageError
from flowsheet.testing import psv
from flowsheet.testing.tables import make_tables


class InMemorySource(Source):
    """A source of given batches."""

    needs_path: ClassVar[bool] = False
    variables: ClassVar[tuple[str, ...]] = ("hr",)

    def __init__(self, *batches: Tables, **fields: object) -> None:
        super().__init__(None, self.Options())
        self.stay_batches = [StayBatch(**vars(tables), **fields) for tables in batches]

    def fingerprint(self) -> str:
        return "in memory"

    def batches(self) -> Iterator[StayBatch]:
        yield from self.stay_batches


def tables_of(*stays: int) -> Tables:
    return make_tables(
        stays=[{"stay_id": i, "discharged_at": 10} for i in stays],
        events=[
            {"stay_id": i, "time": h, "variable": "hr", "value": 80.0}
            for i in stays
            for h in (1, 2)
        ],
        treatments=[
            {"stay_id": i, "drug": "insulin", "start": 3, "end": 3, "dose": 4.0, "unit": "U"}
            for i in stays
        ],
        episodes=[{"stay_id": i, "onset": 5} for i in stays],
    )


def ingest_source(source: Source, target: Path, **quarantine: object) -> Extract:
    policy = QuarantineConfig.model_validate({"max_share": 1.0, **quarantine})
    config = CohortConfig(name="test", source="test", quarantine=policy)
    return ingest(source, config, target, lambda line: None)


def quarantined(extract: Extract) -> dict[tuple[str, str], int]:
    return {(entry.table, entry.rule): entry.rows for entry in extract.manifest.quarantined}


def test_batches_become_one_extract(tmp_path: Path):
    extract = ingest_source(
        InMemorySource(tables_of(1, 2), tables_of(3), attrition={"raw": 5, "adults": 2}),
        tmp_path / "out",
    )
    assert extract.manifest.counts == {
        "subjects": 3,
        "stays": 3,
        "events": 6,
        "treatments": 3,
        "episodes": 3,
        "stays_with_episode": 3,
        "hours": 30,
    }
    steps = ["raw", "adults", "follow the contract's rules", "have measurements"]
    assert extract.manifest.attrition == tuple(zip(steps, [10, 4, 3, 3], strict=True))
    assert extract.tables().events.equals(tables_of(1, 2, 3).events)
    assert check_extract(tmp_path / "out").is_empty()
    assert not (tmp_path / "out" / "quarantine.parquet").exists()


def test_the_order_of_rows_in_a_batch_does_not_matter(tmp_path: Path):
    tables = tables_of(1, 2, 3)
    mixed = Tables(*(getattr(tables, name).reverse() for name in TABLES))
    assert (
        ingest_source(InMemorySource(mixed), tmp_path / "a").fingerprint
        == ingest_source(InMemorySource(tables), tmp_path / "b").fingerprint
    )


def test_the_rows_of_a_quarantined_stay_are_quarantined_too(tmp_path: Path):
    tables = tables_of(1, 2)
    stays = tables.stays.with_columns(sex=pl.when(pl.col("stay_id") == 2).then(pl.lit("?")))
    extract = ingest_source(InMemorySource(replace(tables, stays=stays)), tmp_path / "out")
    assert quarantined(extract) == {
        ("stays", "known_sex"): 1,
        ("events", "stay_quarantined"): 2,
        ("treatments", "stay_quarantined"): 1,
        ("episodes", "stay_quarantined"): 1,
    }
    assert extract.manifest.quarantined_share == {
        "stays": 0.5,
        "events": 0.0,
        "treatments": 0.0,
        "episodes": 0.0,
    }
    assert set(extract.tables().events["stay_id"]) == {1}
    rows = pl.read_parquet(extract.path / "quarantine.parquet")
    assert json.loads(rows.filter(table="stays")["row"].item())["sex"] == "?"
    assert rows["stay_id"].to_list() == [2] * 5


def test_a_stay_that_loses_all_its_events_is_quarantined(tmp_path: Path):
    tables = tables_of(1, 2)
    events = tables.events.with_columns(
        value=pl.when(pl.col("stay_id") == 1).then(5000.0).otherwise(pl.col("value"))
    )
    extract = ingest_source(InMemorySource(replace(tables, events=events)), tmp_path / "out")
    assert quarantined(extract)[("stays", "stay_without_events")] == 1
    assert set(extract.tables().treatments["stay_id"]) == {2}


def test_of_duplicate_events_one_is_kept(tmp_path: Path):
    tables = tables_of(1)
    twice = pl.concat([tables.events.with_columns(value=pl.lit(90.0)), tables.events])
    extract = ingest_source(InMemorySource(replace(tables, events=twice)), tmp_path / "out")
    assert quarantined(extract) == {("events", "duplicate"): 2}
    assert extract.tables().events["value"].to_list() == [80.0, 80.0]


def test_a_stay_that_is_repeated_in_a_later_batch_is_quarantined_with_its_rows(tmp_path: Path):
    extract = ingest_source(InMemorySource(tables_of(1, 3), tables_of(2, 3, 4)), tmp_path / "out")
    assert extract.tables().stays["stay_id"].to_list() == [1, 3, 4]
    assert quarantined(extract)[("stays", "ascending_stay_id")] == 2
    assert extract.tables().events.height == 6


def test_defects_of_the_source_are_counted_and_shown(tmp_path: Path):
    line = {
        "table": "events",
        "key": "CHART row 7",
        "column": "valuenum",
        "rule": "number",
        "value": "x",
    }
    source = InMemorySource(tables_of(1), defects=pl.DataFrame([line]))
    extract = ingest_source(source, tmp_path / "out")
    assert quarantined(extract) == {("events", "number"): 1}
    assert extract.manifest.quarantined_share["events"] == pytest.approx(1 / 3)
    with pytest.raises(CheckFailed, match=r"33\.3% of events[\s\S]*CHART row 7"):
        ingest_source(source, tmp_path / "other", max_share=0.3)


def test_a_rule_whose_policy_is_reject_rejects_the_extract(tmp_path: Path):
    tables = tables_of(1, 2)
    bad = replace(tables, events=tables.events.with_columns(value=pl.lit(5000.0)))
    with pytest.raises(CheckFailed, match=r"plausible_range[\s\S]*stay 1, 2000-01-01 01:00:00, hr"):
        ingest_source(InMemorySource(bad), tmp_path / "out", rules={"plausible_range": "reject"})
    with pytest.raises(CheckFailed, match="plausible_range"):
        ingest_source(InMemorySource(bad), tmp_path / "out", default="reject")
    assert list(tmp_path.iterdir()) == []


def test_a_source_with_wrong_columns_is_rejected_under_every_policy(tmp_path: Path):
    bad = replace(tables_of(1), events=tables_of(1).events.cast({"value": pl.Int64}))
    with pytest.raises(CheckFailed, match=r"events\.value: column_type Int64, not Float64"):
        ingest_source(InMemorySource(bad), tmp_path / "out")


def test_a_source_without_stays_is_rejected(tmp_path: Path):
    with pytest.raises(CheckFailed, match="no stay is left"):
        ingest_source(InMemorySource(), tmp_path / "out")


def test_the_oracle_is_not_part_of_the_data(tmp_path: Path):
    config = compose_cohort("simulated_small", ["cohort.options.stays=20"])
    extract = ingest(make_source(config), config, tmp_path / "out", lambda line: None)
    oracle = read_oracle(extract)
    assert oracle is not None
    assert oracle.columns == ["stay_id", "time", "probability"]
    assert "oracle" not in extract.manifest.tables
    assert read_oracle(ingest_source(InMemorySource(tables_of(1)), tmp_path / "other")) is None


def test_an_extract_is_replaced_only_by_a_complete_one(tmp_path: Path):
    target = tmp_path / "out"
    first = ingest_source(InMemorySource(tables_of(1)), target)
    with pytest.raises(CheckFailed):
        ingest_source(InMemorySource(), target)
    assert Extract.open(target, verify=True).fingerprint == first.fingerprint
    second = ingest_source(InMemorySource(tables_of(2)), target)
    assert Extract.open(target, verify=True).fingerprint == second.fingerprint != first.fingerprint
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


class TestDiskErrors:
    """Errors of the disk become an error message, and no files are left."""

    @pytest.fixture
    def limited_file_size(self) -> Iterator[None]:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, limits[1]))
        yield
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)

    @pytest.mark.usefixtures("limited_file_size")
    def test_a_full_disk_is_an_error(self, tmp_path: Path):
        with pytest.raises(FlowsheetError, match="could not write"):
            ingest_source(InMemorySource(tables_of(*range(1, 2000))), tmp_path / "out")
        assert list(tmp_path.iterdir()) == []

    def test_a_target_below_a_file_is_an_error(self, tmp_path: Path):
        (tmp_path / "file").write_text("", encoding="utf-8")
        with pytest.raises(FlowsheetError, match="could not write"):
            ingest_source(InMemorySource(tables_of(1)), tmp_path / "file" / "out")


_SLOW_INGEST = """
import sys, time
from pathlib import Path
from flowsheet.cohort.ingest import ingest, make_source
from flowsheet.testing import psv
def print_and_wait(line):
    print(line, flush=True)
    time.sleep(60)
config = psv.cohort_config(Path(sys.argv[1]))
ingest(make_source(config), config, Path(sys.argv[2]), print_and_wait)
"""


@contextmanager
def slow_ingest(raw: Path, target: Path) -> Iterator[None]:
    """Another process that has written its first batch; it is killed at the end of the block."""
    command = [sys.executable, "-c", _SLOW_INGEST, str(raw), str(target)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            assert b"stays" in process.stdout.readline()
            yield
        finally:
            process.kill()


def unfinished_folders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.endswith(".part")]


def test_a_killed_ingest_publishes_nothing_and_the_next_one_removes_its_files(tmp_path: Path):
    raw, target = psv.write_patients(tmp_path / "raw"), tmp_path / "out"
    config = psv.cohort_config(raw)
    with slow_ingest(raw, target):
        pass
    assert not target.exists()
    assert len(unfinished_folders(tmp_path)) == 1
    extract = ingest(make_source(config), config, target, lambda line: None)
    assert check_extract(target).is_empty()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "raw"]
    with slow_ingest(raw, target):
        pass
    assert Extract.open(target, verify=True).fingerprint == extract.fingerprint


def test_the_files_of_a_running_ingest_are_not_removed(tmp_path: Path):
    raw, target = psv.write_patients(tmp_path / "raw"), tmp_path / "out"
    config = psv.cohort_config(raw)
    with slow_ingest(raw, target):
        ingest(make_source(config), config, target, lambda line: None)
        assert len(unfinished_folders(tmp_path)) == 1


def test_an_extract_that_a_killed_writer_moved_away_is_moved_back(tmp_path: Path):
    target = tmp_path / "out"
    ingest_source(InMemorySource(tables_of(1)), target)
    target.rename(tmp_path / ".out.0123abcd.part.old")
    with pytest.raises(CheckFailed):
        ingest_source(InMemorySource(), target)
    assert Extract.open(target, verify=True).tables().stays["stay_id"].to_list() == [1]


def test_a_time_after_the_year_9999_is_quarantined_like_any_other(tmp_path: Path):
    tables = tables_of(1, 2, 3)
    extreme = (
        pl.when(pl.int_range(pl.len()) == 1)
        .then(pl.lit(2**63 - 10).cast(pl.Datetime("us")))
        .otherwise("time")
    )
    broken = replace(tables, events=tables.events.with_columns(time=extreme))
    extract = ingest_source(InMemorySource(broken), tmp_path / "extract")
    assert ("events", "inside_stay") in quarantined(extract)


@pytest.mark.parametrize("path", ["a" * 5000, "a\0b", "nowhere"])
def test_records_that_can_be_no_file_are_a_usage_error(path: str) -> None:
    with pytest.raises(UsageError, match="the records do not exist"):
        make_source(compose_cohort("extract", [f"cohort.path={path}"]))


@pytest.mark.parametrize("source", ["extract", "yaib", "meds", "mimic3", "physionet2019"])
def test_a_file_in_place_of_a_folder_is_refused(tmp_path: Path, source: str) -> None:
    file = tmp_path / "records"
    file.write_text("no folder", encoding="utf-8")
    with pytest.raises(CheckFailed, match="records"):
        list(make_source(compose_cohort(source, [f"cohort.path={file}"])).batches())
