"""The open demo of MIMIC-IV as MEDS, beside its raw tables."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from flowsheet.cohort import catalogue
from flowsheet.cohort.ingest import make_source
from flowsheet.compose import compose_cohort

pytestmark = [pytest.mark.realdata, pytest.mark.slow]


def hourly_values(source: str, folder: Path) -> pl.DataFrame:
    """The last vital sign or result of each hour of each stay."""
    batches = list(make_source(compose_cohort(source, [f"cohort.path={folder}"])).batches())
    stays = pl.concat(batch.stays for batch in batches)
    events = pl.concat(batch.events for batch in batches)
    kinds = {name: variable.kind for name, variable in catalogue.variables().items()}
    kept = [name for name, kind in kinds.items() if kind in ("vital", "lab")]
    limits = stays.select("stay_id", "subject_id", "admitted_at", "discharged_at")
    inside = events.join(limits, on="stay_id").filter(
        pl.col("time").is_between("admitted_at", "discharged_at"), pl.col("variable").is_in(kept)
    )
    hour = (pl.col("time") - pl.col("admitted_at")).dt.total_hours().alias("hour")
    keys = ["subject_id", "admitted_at", "variable", hour]
    return inside.sort("time").group_by(keys).agg(pl.col("value").last())


def test_vital_signs_and_results_are_those_of_the_raw_tables(data_dir: Path, flowsheet_home: Path):
    """The older extraction writes LAB//50912//mg/dL, stamped at the draw.

    Blood gases differ: the words of the specimen are not in MEDS.
    """
    raw = hourly_values("mimic4", data_dir / "mimic4-demo")
    meds = hourly_values("meds", data_dir / "mimic4-demo-meds")
    meds = meds.join(
        raw.select("subject_id", "admitted_at").unique(), on=["subject_id", "admitted_at"]
    )
    keys = ["subject_id", "admitted_at", "variable", "hour"]
    both = raw.join(meds, on=keys, how="full", coalesce=True)
    tolerance = 1e-3 * pl.col("value").abs() + 1e-3
    is_equal = ((pl.col("value") - pl.col("value_right")).abs() <= tolerance).fill_null(value=False)
    assert both.height > 48_000
    assert both.select(is_equal.mean()).item() >= 0.99
    different = both.filter(~is_equal)
    blood_gases = different.filter(pl.col("variable").is_in(["po2", "sao2"])).height
    assert blood_gases / different.height > 0.9
