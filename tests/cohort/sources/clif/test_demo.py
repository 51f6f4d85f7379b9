"""The open demo of MIMIC-IV in CLIF, beside its raw tables."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from flowsheet.cohort import catalogue
from flowsheet.cohort.schema import Tables
from flowsheet.cohort.sepsis3 import LabelInputs, Sepsis3Options, label
from tests.cohort.clif_folder import read_clif
from tests.cohort.mimic3_folder import SourceResult
from tests.cohort.mimic4_folder import read_mimic4

pytestmark = pytest.mark.realdata
ZONE = "Etc/GMT+5"
"""The demo's times were converted to UTC from Boston's standard time."""
STAY = ["subject_id", "admitted_at", "discharged_at"]


@pytest.fixture(scope="module")
def demo(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> SourceResult:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOWSHEET_HOME", str(tmp_path_factory.mktemp("home")))
        return read_clif(data_dir / "clif-demo" / "2.1", time_zone=ZONE)


def test_every_row_is_read_or_named(demo: SourceResult):
    assert demo.tables.stays.height == 69
    assert pl.concat(batch.defects for batch in demo.batches).is_empty()
    assert demo.excluded["clif_labs: items that the catalogue does not map: ferritin"] == 20
    labs = demo.tables.events.filter(pl.col("variable").is_in(["crea", "plt", "bili"]))
    delay = (labs["known_at"] - labs["time"]).dt.total_minutes()
    assert 30 < delay.median() < 180
    assert delay.min() >= 0


def test_both_versions_give_the_same_events_and_treatments(demo: SourceResult, data_dir: Path):
    new = read_clif(data_dir / "clif-demo" / "3.0", time_zone=ZONE).tables
    assert new.events.equals(demo.tables.events)
    assert new.treatments.equals(demo.tables.treatments)


@pytest.mark.slow
def test_values_and_scores_are_those_of_the_raw_tables(data_dir: Path, flowsheet_home: Path):
    """Without what CLIF does not have: urine, dialysis, words of devices and specimens.

    The raw tables also have results that name no hospital admission, of the day before the stay.
    """
    options = {"intubated_verbal": "as_charted", "before_hours": 0}
    clif = read_clif(data_dir / "clif-demo" / "3.0", time_zone=ZONE, **options).tables
    raw = read_mimic4(data_dir / "mimic4-demo", **options).tables
    pairs = hourly_values(raw).join(hourly_values(clif), on=[*STAY, "variable", "hour"])
    tolerance = 0.005 * pl.col("value").abs() + 1e-6
    is_equal = (pl.col("value") - pl.col("value_right")).abs() <= tolerance
    assert pairs.height > 41_000
    assert pairs.select(is_equal.mean()).item() > 0.99
    others = pairs.filter(~is_equal)["variable"].unique().to_list()
    assert set(others) <= {"sbp", "map", "dbp", "glu", "resp", "bicar"}
    scores = hourly_scores(raw).join(hourly_scores(clif), on=[*STAY, "hour"])
    assert scores.height > 5_000
    is_same = (scores["total"] == scores["total_right"]).mean()
    assert is_same is not None
    assert is_same > 0.99


def hourly_values(tables: Tables) -> pl.DataFrame:
    """The last vital sign or result of each hour of each stay."""
    kinds = {name: variable.kind for name, variable in catalogue.variables().items()}
    kept = [name for name, kind in kinds.items() if kind in ("vital", "lab")]
    inside = tables.events.join(tables.stays.select("stay_id", *STAY), on="stay_id").filter(
        pl.col("time").is_between("admitted_at", "discharged_at"), pl.col("variable").is_in(kept)
    )
    hour = (pl.col("time") - pl.col("admitted_at")).dt.total_hours().alias("hour")
    return inside.sort("time").group_by(*STAY, "variable", hour).agg(pl.col("value").last())


def hourly_scores(tables: Tables) -> pl.DataFrame:
    """SOFA of each hour of each stay."""
    events = tables.events.filter(~pl.col("variable").is_in(["urine", "vent", "rrt", "po2"]))
    inputs = LabelInputs(tables.stays, events, tables.treatments)
    labels = label(inputs, Sepsis3Options())
    return labels.sofa.join(tables.stays.select("stay_id", *STAY), on="stay_id")
