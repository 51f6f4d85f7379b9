"""The open demo of MIMIC-IV."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from tests.cohort.mimic3_folder import SourceResult
from tests.cohort.mimic4_folder import read_mimic4

pytestmark = pytest.mark.realdata


@pytest.fixture(scope="module")
def demo(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> SourceResult:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOWSHEET_HOME", str(tmp_path_factory.mktemp("home")))
        options = {"convention": "mimic_code"}
        return read_mimic4(data_dir / "mimic4-demo", stays_per_batch=50, sepsis3=options)


def test_suspicion_and_sepsis_are_those_of_mimic_code(demo: SourceResult):
    """40 stays with suspected infection and 27 with Sepsis-3 by its own rules, run on the demo."""
    assert demo.tables.stays.height == 66
    suspected = sum(batch.source_counts["stays with suspected infection"] for batch in demo.batches)
    assert suspected == 40
    assert demo.tables.episodes["stay_id"].n_unique() == 28


def test_every_stay_has_vital_signs_and_results_that_are_known_later(demo: SourceResult):
    events = demo.tables.events
    has_rate = events.filter(variable="hr")["stay_id"].n_unique()
    assert has_rate == demo.tables.stays.height
    labs = events.filter(pl.col("variable").is_in(["crea", "plt", "bili"]))
    delay = (labs["known_at"] - labs["time"]).dt.total_minutes()
    assert 60 < delay.median() < 180
    assert delay.min() >= 0


def test_rows_are_rejected_by_name_and_most_are_used(demo: SourceResult):
    defects = pl.concat([batch.defects for batch in demo.batches])
    assert defects.is_empty()
    assert demo.tables.treatments.height > 5_000
