"""Ingest publishes a whole extract or none, under the declared policy."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
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
from flowsheet.errors import CheckFailed, FlowsheetError
from flowsheet.testing import psv
from flowsheet.testing.tables import make_tables


class Given(Source):
    """Batches that a test has made."""

    needs_path: ClassVar[bool] = False
    variables: ClassVar[tuple[str, ...]] = ("hr",)

    def __init__(self, *batches: Tables, **more: object) -> None:
        super().__init__(None, self.Options())
        self.given = [StayBatch(**vars(tables), **more) for tables in batches]

    def fingerprint(self) -> str:
        return "given"

    def batches(self) -> Iterator[StayBatch]:
        yield from self.given


def some(*stays: int) -> Tables:
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


def run(source: Source, target: Path, **quarantine: object) -> Extract:
    policy = QuarantineConfig.model_validate({"max_share": 1.0, **quarantine})
    config = CohortConfig(name="given", source="given", quarantine=policy)
    return ingest(source, config, target, lambda line: None)


def aside(extract: Extract) -> dict[tuple[str, str], int]:
    return {(q.table, q.rule): q.rows for q in extract.manifest.quarantined}


def test_batches_become_one_extract(tmp_path: Path):
    extract = run(Given(some(1, 2), some(3), attrition={"raw": 5, "grown up": 2}), tmp_path / "out")
    assert extract.manifest.counts == {
        "subjects": 3, "stays": 3, "events": 6, "treatments": 3, "episodes": 3, "stays_with_episode": 3, "hours": 30
    }  # fmt: skip
    steps = ["raw", "grown up", "follow the contract's rules", "have measurements"]
    assert extract.manifest.attrition == tuple(zip(steps, [10, 4, 3, 3], strict=True))
    assert extract.tables().events.equals(some(1, 2, 3).events)
    assert check_extract(tmp_path / "out").is_empty()
    assert not (tmp_path / "out" / "quarantine.parquet").exists()


def test_the_order_of_rows_in_a_batch_does_not_matter(tmp_path: Path):
    tables = some(1, 2, 3)
    mixed = Tables(*(getattr(tables, name).reverse() for name in TABLES))
    assert (
        run(Given(mixed), tmp_path / "a").fingerprint
        == run(Given(tables), tmp_path / "b").fingerprint
    )


def test_a_bad_stay_takes_its_rows_with_it(tmp_path: Path):
    tables = some(1, 2)
    stays = tables.stays.with_columns(sex=pl.when(pl.col("stay_id") == 2).then(pl.lit("?")))
    extract = run(Given(replace(tables, stays=stays)), tmp_path / "out")
    assert aside(extract) == {
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


def test_a_stay_that_loses_all_its_events_goes_too(tmp_path: Path):
    tables = some(1, 2)
    events = tables.events.with_columns(
        value=pl.when(pl.col("stay_id") == 1).then(5000.0).otherwise(pl.col("value"))
    )
    extract = run(Given(replace(tables, events=events)), tmp_path / "out")
    assert aside(extract)[("stays", "stay_without_events")] == 1
    assert set(extract.tables().treatments["stay_id"]) == {2}


def test_of_doubled_events_one_stays(tmp_path: Path):
    tables = some(1)
    twice = pl.concat([tables.events.with_columns(value=pl.lit(90.0)), tables.events])
    extract = run(Given(replace(tables, events=twice)), tmp_path / "out")
    assert aside(extract) == {("events", "duplicate"): 2}
    assert extract.tables().events["value"].to_list() == [80.0, 80.0]


def test_a_stay_that_comes_again_in_a_later_batch_is_set_aside_with_its_rows(tmp_path: Path):
    extract = run(Given(some(1, 3), some(2, 3, 4)), tmp_path / "out")
    assert extract.tables().stays["stay_id"].to_list() == [1, 3, 4]
    assert aside(extract)[("stays", "ascending_stay_id")] == 2
    assert extract.tables().events.height == 6


def test_defects_of_the_source_are_counted_and_shown(tmp_path: Path):
    line = {
        "table": "events",
        "key": "CHART row 7",
        "column": "valuenum",
        "rule": "number",
        "value": "x",
    }
    source = Given(some(1), defects=pl.DataFrame([line]))
    extract = run(source, tmp_path / "out")
    assert aside(extract) == {("events", "number"): 1}
    assert extract.manifest.quarantined_share["events"] == pytest.approx(1 / 3)
    with pytest.raises(CheckFailed, match=r"33\.3% of events[\s\S]*CHART row 7"):
        run(source, tmp_path / "other", max_share=0.3)


def test_a_rule_without_exception_refuses_the_extract(tmp_path: Path):
    tables = some(1, 2)
    bad = replace(tables, events=tables.events.with_columns(value=pl.lit(5000.0)))
    with pytest.raises(CheckFailed, match=r"plausible_range[\s\S]*stay 1, 2000-01-01 01:00:00, hr"):
        run(Given(bad), tmp_path / "out", rules={"plausible_range": "reject"})
    with pytest.raises(CheckFailed, match="plausible_range"):
        run(Given(bad), tmp_path / "out", default="reject")
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_breaks_the_shape_is_refused_whatever_the_policy(tmp_path: Path):
    bad = replace(some(1), events=some(1).events.cast({"value": pl.Int64}))
    with pytest.raises(CheckFailed, match=r"events\.value: column_type Int64, not Float64"):
        run(Given(bad), tmp_path / "out")


def test_a_source_without_stays_is_refused(tmp_path: Path):
    with pytest.raises(CheckFailed, match="no stay is left"):
        run(Given(), tmp_path / "out")


def test_the_oracle_is_kept_apart(tmp_path: Path):
    config = compose_cohort("simulated_small", ["cohort.options.stays=20"])
    extract = ingest(make_source(config), config, tmp_path / "out", lambda line: None)
    oracle = read_oracle(extract)
    assert oracle is not None
    assert oracle.columns == ["stay_id", "time", "probability"]
    assert "oracle" not in extract.manifest.tables
    assert read_oracle(run(Given(some(1)), tmp_path / "other")) is None


def test_an_extract_is_replaced_only_by_a_whole_one(tmp_path: Path):
    target = tmp_path / "out"
    first = run(Given(some(1)), target)
    with pytest.raises(CheckFailed):
        run(Given(), target)
    assert Extract.open(target, verify=True).fingerprint == first.fingerprint
    second = run(Given(some(2)), target)
    assert Extract.open(target, verify=True).fingerprint == second.fingerprint != first.fingerprint
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


class TestWithoutRoom:
    """Errors of the disk become a message and leave nothing behind."""

    @pytest.fixture
    def small_files(self) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, before[1]))
        yield
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)

    def test_no_room(self, tmp_path: Path, small_files: None):
        with pytest.raises(FlowsheetError, match="could not write"):
            run(Given(some(*range(1, 2000))), tmp_path / "out")
        assert list(tmp_path.iterdir()) == []

    def test_the_place_is_a_file(self, tmp_path: Path):
        (tmp_path / "file").write_text("")
        with pytest.raises(FlowsheetError, match="could not write"):
            run(Given(some(1)), tmp_path / "file" / "out")


_SLOW = """
import sys, time
from pathlib import Path
from flowsheet.cohort.ingest import ingest, make_source
from flowsheet.testing import psv
def told(line):
    print(line, flush=True)
    time.sleep(60)
config = psv.cohort_config(Path(sys.argv[1]))
ingest(make_source(config), config, Path(sys.argv[2]), told)
"""


def start_and_kill(raw: Path, target: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _SLOW, str(raw), str(target)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert b"stays" in process.stdout.readline()
        process.kill()


def test_a_killed_ingest_leaves_nothing_that_counts_and_the_next_one_clears_it_away(tmp_path: Path):
    raw, target = psv.write_patients(tmp_path / "raw"), tmp_path / "out"
    start_and_kill(raw, target)
    assert not target.exists()
    assert len([p for p in tmp_path.iterdir() if p.name.endswith(".part")]) == 1
    config = psv.cohort_config(raw)
    extract = ingest(make_source(config), config, target, lambda line: None)
    assert check_extract(target).is_empty()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "raw"]
    start_and_kill(raw, target)
    assert Extract.open(target, verify=True).fingerprint == extract.fingerprint


def test_a_living_writer_is_left_alone(tmp_path: Path):
    raw, target = psv.write_patients(tmp_path / "raw"), tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, "-c", _SLOW, str(raw), str(target)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        config = psv.cohort_config(raw)
        ingest(make_source(config), config, target, lambda line: None)
        parts = [p.name for p in tmp_path.iterdir() if p.name.endswith(".part")]
        process.kill()
    assert len(parts) == 1


def test_an_extract_moved_aside_by_a_killed_writer_comes_back(tmp_path: Path):
    target = tmp_path / "out"
    run(Given(some(1)), target)
    target.rename(tmp_path / ".out.0123abcd.part.old")
    with pytest.raises(CheckFailed):
        run(Given(), target)
    assert Extract.open(target, verify=True).tables().stays["stay_id"].to_list() == [1]


def test_a_time_that_no_calendar_could_show_is_set_aside_like_any_other(tmp_path: Path):
    tables = some(1, 2, 3)
    extreme = (
        pl.when(pl.int_range(pl.len()) == 1)
        .then(pl.lit(2**63 - 10).cast(pl.Datetime("us")))
        .otherwise("time")
    )
    spoilt = replace(tables, events=tables.events.with_columns(time=extreme))
    extract = run(Given(spoilt), tmp_path / "extract")
    assert ("events", "inside_stay") in aside(extract)
