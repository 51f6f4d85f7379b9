"""An extract is the same to the last byte, whichever process built its batches."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from flowsheet.cohort.checked_batches import CheckedBatch
from flowsheet.cohort.divided import DividedSource, ParsedGroups
from flowsheet.cohort.ingest import ingest, make_source
from flowsheet.cohort.spill import spill_folder
from flowsheet.config import CohortConfig
from flowsheet.errors import CheckFailed
from flowsheet.lifecycle.experiment.ingest_groups import build_group
from flowsheet.state.erasures import ErasedIds
from tests.cohort.clif_folder import clif_tables, write_clif
from tests.cohort.divided_ingest import build_elsewhere, ingest_both, read_files
from tests.cohort.mimic3_folder import add_rows, raw_tables, write_tables

RESPONSES: dict[str, dict[str, Any]] = {"death": {}, "aki": {}}


def make_cohort(folder: Path, source: str = "mimic3", **fields: Any) -> CohortConfig:
    options = {"stays_per_batch": 1, **fields.pop("options", {})}
    fields = {"allow_empty": True, "quarantine": {"max_share": 0.9}, **fields}
    return CohortConfig(name="small", source=source, path=str(folder), options=options, **fields)


def write_mimic3(folder: Path) -> Path:
    """MIMIC-III's tables with cells, rows and a stay that go to the quarantine."""
    tables = raw_tables()
    patient = {"subject_id": 12, "hadm_id": 112}
    add_rows(
        tables,
        "labevents",
        {**patient, "itemid": 50912, "charttime": "yesterday", "valuenum": 1},
        {**patient, "itemid": 50912, "charttime": "2160-01-01 12:00:00", "valuenum": "high"},
    )
    return write_tables(folder, tables)


def assert_nothing_is_left(home: Path) -> None:
    assert not list((home / "spill").iterdir())


@pytest.mark.parametrize(
    "groups",
    [lambda group: True, lambda group: group % 2 == 1, lambda group: False],
    ids=["all", "some", "none"],
)
def test_quarantined_rows_responses_and_comparisons_are_the_same(
    tmp_path: Path, flowsheet_home: Path, groups: Callable[[int], bool]
):
    cohort = make_cohort(write_mimic3(tmp_path / "raw"), responses=RESPONSES)
    files = ingest_both(cohort, tmp_path, groups)
    assert {"quarantine.parquet", "stay_digests.parquet", "manifest.json"} <= set(files)
    assert b'"definition_agreement": [\n' in files["manifest.json"]
    assert b'"aki"' in files["manifest.json"]
    assert_nothing_is_left(flowsheet_home)


def test_larger_batches_than_one_stay_are_the_same(tmp_path: Path, flowsheet_home: Path):
    ingest_both(
        make_cohort(write_mimic3(tmp_path / "raw"), options={"stays_per_batch": 3}), tmp_path
    )


def test_ids_that_are_texts_are_shown_by_all_processes(tmp_path: Path, flowsheet_home: Path):
    tables = clif_tables()
    vitals = tables["clif_vitals"]
    added = pl.DataFrame(
        [("H-999", "2160-01-01 16:30:00+00:00", "heart_rate", "80")],
        schema=vitals.schema,
        orient="row",
    )
    tables["clif_vitals"] = pl.concat([vitals, added])
    raw = write_clif(tmp_path / "raw", tables)
    options = {"time_zone": "UTC", "sepsis3": {}}
    files = ingest_both(make_cohort(raw, "clif", options=options), tmp_path)
    assert pl.read_parquet(files["quarantine.parquet"])["value"].to_list() == ["H-999"]


def test_erased_subjects_are_left_out(tmp_path: Path, flowsheet_home: Path):
    ErasedIds.load().add([12], [])
    files = ingest_both(make_cohort(write_mimic3(tmp_path / "raw")), tmp_path)
    subjects = set(pl.read_parquet(files["stays.parquet"])["subject_id"])
    assert subjects == {11, 13}


def test_records_without_stays_fail_alike(tmp_path: Path, flowsheet_home: Path):
    cohort = make_cohort(write_mimic3(tmp_path / "raw"), options={"min_age": 100})
    assert "no stay is left" in fail_both(cohort, tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"quarantine": {"default": "reject"}}, "whose policy is to reject"),
        ({"quarantine": {"max_share": 0.0}}, "too many rows break the contract"),
        ({"max_rows_per_stay": 3}, "more than 3"),
        ({"allow_empty": False}, "the records are incomplete"),
    ],
)
def test_the_errors_are_the_same(
    tmp_path: Path, flowsheet_home: Path, fields: dict[str, Any], message: str
):
    assert message in fail_both(make_cohort(write_mimic3(tmp_path / "raw"), **fields), tmp_path)
    assert not (tmp_path / "several").exists()
    assert_nothing_is_left(flowsheet_home)


def fail_both(cohort: CohortConfig, folder: Path) -> str:
    """The message of the error, which is the same of one process and of several."""
    messages = []
    for name, build in (("one", None), ("several", build_elsewhere(cohort, lambda group: True))):
        with pytest.raises(CheckFailed) as caught:
            ingest(make_source(cohort), cohort, folder / name, lambda line: None, build)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    return messages[0]


def test_a_group_that_fails_stops_the_others(tmp_path: Path, flowsheet_home: Path):
    cohort = make_cohort(write_mimic3(tmp_path / "raw"), max_rows_per_stay=3)
    found: list[list[str]] = []
    build = build_elsewhere(cohort, lambda group: True)

    def build_and_look(parsed: ParsedGroups) -> None:
        build(parsed)
        found.append([path.name[-1] for path in parsed.folder.glob("checked-*")])

    with pytest.raises(CheckFailed):
        ingest(make_source(cohort), cohort, tmp_path / "x", lambda line: None, build_and_look)
    assert found == [["3"]]  # it has few rows; group 2, which was next, has too many


def test_a_worker_that_ends_after_the_ingest_leaves_no_rows(
    tmp_path: Path, flowsheet_home: Path, monkeypatch: pytest.MonkeyPatch
):
    cohort = make_cohort(write_mimic3(tmp_path / "raw"))
    save = CheckedBatch.save
    with contextlib.ExitStack() as ingest_process:
        folder = ingest_process.enter_context(spill_folder())
        source = make_source(cohort)
        assert isinstance(source, DividedSource)
        source.parse(folder).save()

        def save_late(batch: CheckedBatch, target: Path) -> None:
            ingest_process.close()
            save(batch, target)

        monkeypatch.setattr(CheckedBatch, "save", save_late)
        build_group(cohort, folder, 0)
    assert_nothing_is_left(flowsheet_home)


def test_a_worker_with_other_options_builds_nothing_that_is_used(
    tmp_path: Path, flowsheet_home: Path
):
    cohort = make_cohort(write_mimic3(tmp_path / "raw"))
    other = make_cohort(tmp_path / "raw", options={"default_weight_kg": 70.0})
    extracts = []
    for name, build in (("one", None), ("other", build_elsewhere(other, lambda group: True))):
        ingest(make_source(cohort), cohort, tmp_path / name, lambda line: None, build)
        extracts.append(read_files(tmp_path / name))
    assert extracts[0] == extracts[1]


def test_other_processes_read_what_was_saved(tmp_path: Path, flowsheet_home: Path):
    cohort = make_cohort(write_mimic3(tmp_path / "raw"), responses=RESPONSES)

    def build(parsed: ParsedGroups) -> None:
        parsed.save()
        code = (
            "import sys; from pathlib import Path\n"
            "from flowsheet.config import CohortConfig\n"
            "from flowsheet.lifecycle.experiment.ingest_groups import build_group\n"
            "cohort = CohortConfig.model_validate_json(sys.argv[1])\n"
            f"for group in range({parsed.n_groups}): build_group(cohort, Path(sys.argv[2]), group)"
        )
        arguments = [cohort.model_dump_json(), str(parsed.folder)]
        subprocess.run([sys.executable, "-c", code, *arguments], check=True)
        assert len(list(parsed.folder.glob("checked-*"))) == parsed.n_groups

    ingest(make_source(cohort), cohort, tmp_path / "one", lambda line: None)
    ingest(make_source(cohort), cohort, tmp_path / "several", lambda line: None, build)
    assert read_files(tmp_path / "one") == read_files(tmp_path / "several")
