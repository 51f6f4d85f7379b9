"""The open demo of MIMIC-IV as MEDS, beside its raw tables."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from flowsheet.cohort import catalogue
from flowsheet.cohort.ingest import make_source
from flowsheet.compose import compose_cohort
from flowsheet.testing import meds

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


def compare(raw: pl.DataFrame, by_meds: pl.DataFrame) -> pl.DataFrame:
    """The values of both, hour by hour, and whether they are equal."""
    by_meds = by_meds.join(
        raw.select("subject_id", "admitted_at").unique(), on=["subject_id", "admitted_at"]
    )
    keys = ["subject_id", "admitted_at", "variable", "hour"]
    both = raw.join(by_meds, on=keys, how="full", coalesce=True)
    tolerance = 1e-3 * pl.col("value").abs() + 1e-3
    is_equal = ((pl.col("value") - pl.col("value_right")).abs() <= tolerance).fill_null(value=False)
    return both.with_columns(is_equal=is_equal)


def write_newer_form(raw: Path, older: Path, root: Path) -> Path:
    """As MIMIC_IV_MEDS 0.1.0 writes it: a draw and a result for each row of the laboratory."""
    lab = pl.read_csv(raw / "hosp" / "labevents.csv.gz", infer_schema=False)
    time = pl.col("charttime", "storetime").str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False)
    lab = lab.with_columns(time, pl.col("subject_id").cast(pl.Int64))
    number = pl.col("valuenum").cast(pl.Float32)
    unit = pl.col("valueuom").fill_null("UNK")
    draws = lab.select(
        "subject_id",
        time="charttime",
        code=pl.format("LAB//SPECIMEN_COLLECTED//{}", "itemid"),
        numeric_value=pl.lit(None, pl.Float32),
    )
    results = lab.drop_nulls("storetime").select(
        "subject_id",
        time="storetime",
        code=pl.format("LAB//RESULT//{}//{}", "itemid", unit),
        numeric_value=number,
    )
    shard = pl.concat(pl.read_parquet(file) for file in older.glob("data/**/*.parquet"))
    others = shard.filter(~pl.col("code").str.contains(r"^LAB//5\d{4}//"))
    return meds.write_data_set(root, {"train/0": pl.concat([others, draws, results])})


@pytest.fixture(scope="module")
def raw_values(data_dir: Path) -> pl.DataFrame:
    return hourly_values("mimic4", data_dir / "mimic4-demo")


def test_results_stamped_when_stored_are_those_of_the_raw_tables(
    data_dir: Path, tmp_path: Path, flowsheet_home: Path, raw_values: pl.DataFrame
):
    """Some results are read at a later draw of their test, which overtook them."""
    older = data_dir / "mimic4-demo-meds"
    root = write_newer_form(data_dir / "mimic4-demo", older, tmp_path / "newer")
    both = compare(raw_values, hourly_values("meds", root))
    assert both.height > 48_000
    assert both["is_equal"].mean() >= 0.995


def test_vital_signs_and_results_are_those_of_the_raw_tables(
    data_dir: Path, flowsheet_home: Path, raw_values: pl.DataFrame
):
    """The older extraction writes LAB//50912//mg/dL, stamped at the draw.

    Blood gases differ: the words of the specimen are not in MEDS.
    """
    both = compare(raw_values, hourly_values("meds", data_dir / "mimic4-demo-meds"))
    assert both.height > 48_000
    assert both["is_equal"].mean() >= 0.99
    different = both.filter(~pl.col("is_equal"))
    blood_gases = different.filter(pl.col("variable").is_in(["po2", "sao2"])).height
    assert blood_gases / different.height > 0.9


def read_states(source: str, folder: Path) -> pl.DataFrame:
    """The hours of each stay at which a ventilator or a dialysis runs, by the last 8 hours."""
    batches = list(make_source(compose_cohort(source, [f"cohort.path={folder}"])).batches())
    stays = pl.concat(batch.stays for batch in batches)
    stays = stays.select("stay_id", "subject_id", "admitted_at", "discharged_at")
    hours = pl.datetime_ranges("admitted_at", "discharged_at", "1h")
    grid = stays.with_columns(hour=hours).explode("hour").sort("hour")
    events = pl.concat(batch.events for batch in batches).sort("time")
    for name in ("vent", "rrt"):
        states = events.filter(variable=name).select("stay_id", "time", pl.col("value").alias(name))
        grid = grid.join_asof(
            states,
            left_on="hour",
            right_on="time",
            by="stay_id",
            tolerance="8h",
            check_sortedness=False,
        ).drop("time")
    return grid.with_columns(pl.col("vent", "rrt").fill_null(0.0)).drop("stay_id")


def test_ventilation_and_dialysis_last_as_in_the_raw_tables(data_dir: Path, flowsheet_home: Path):
    raw = read_states("mimic4", data_dir / "mimic4-demo")
    by_meds = read_states("meds", data_dir / "mimic4-demo-meds")
    both = raw.join(by_meds, on=["subject_id", "admitted_at", "discharged_at", "hour"])
    assert both.height > 5_000
    for name in ("vent", "rrt"):
        assert both[name].sum() > 100
        assert (both[name] == both[f"{name}_right"]).mean() >= 0.994
