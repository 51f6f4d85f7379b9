"""How long laboratory results take from the sample to the record, measured in MIMIC-IV.

    python benchmarks/laboratory_delays.py MIMIC_IV [--write]

MIMIC_IV is a folder of MIMIC-IV 2.2 or of its open demo: LABEVENTS has the time of the sample
(charttime) and of the result (storetime) there, in MIMIC-III only that of the sample. One line a
laboratory item of the catalogue: the results, the median delay, and the 95th percentile, in hours.
An item with fewer than ``LEAST_RESULTS`` results has the 95th percentile of its category (blood
gas, chemistry, haematology). ``--write`` writes the percentiles into the catalogue's
mimic3_items.csv and meds_mimic_codes.csv, as ``delay_hours``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import polars as pl

LEAST_RESULTS = 10
CONCEPTS = Path(__file__).parents[1] / "src" / "flowsheet" / "cohort" / "concepts"


def measure_delays(folder: Path, item_ids: pl.Series) -> pl.DataFrame:
    """(itemid, n, median_hours, delay_hours, origin) of each item, in the order of ``item_ids``."""
    results = pl.read_csv(folder / "hosp" / "labevents.csv.gz", infer_schema=False)
    categories = pl.read_csv(folder / "hosp" / "d_labitems.csv.gz", infer_schema=False)
    results = results.join(categories.select("itemid", "category"), on="itemid", how="left")
    sampled, stored = (_parse_time(column) for column in ("charttime", "storetime"))
    hours = (stored - sampled).dt.total_seconds() / 3600
    delays = results.select("itemid", "category", hours=hours.clip(0)).drop_nulls("hours")
    statistics = {
        "n": pl.len(),
        "median_hours": pl.col("hours").median().round(2),
        "delay_hours": pl.col("hours").quantile(0.95, "linear").round(2),
    }
    items = pl.DataFrame({"itemid": item_ids.cast(pl.String)})
    items = items.join(categories.select("itemid", "category"), on="itemid", how="left")
    by_item = delays.group_by("itemid").agg(**statistics)
    by_category = delays.group_by("category").agg(_category_delay=statistics["delay_hours"])
    measured = items.join(by_item, on="itemid", how="left", maintain_order="left")
    measured = measured.join(by_category, on="category", how="left", maintain_order="left")
    has_enough = pl.col("n").fill_null(0) >= LEAST_RESULTS
    own, shared = pl.col("delay_hours"), pl.col("_category_delay")
    return measured.select(
        pl.col("itemid").cast(pl.Int64),
        pl.col("n").fill_null(0),
        "median_hours",
        delay_hours=pl.when(has_enough).then(own).otherwise(shared),
        origin=pl.when(has_enough).then(pl.lit("item")).otherwise(pl.lit("category")),
    )


def write_delays(delays: pl.DataFrame) -> None:
    """Write ``delay_hours`` into the catalogue's two files."""
    hours = delays.select(pl.col("itemid").cast(pl.String), _hours=pl.col("delay_hours"))
    hours = hours.with_columns(pl.col("_hours").cast(pl.String))
    item_of_code = pl.col("code").str.extract(r"^LAB//(5\d{4})//")
    is_lab = pl.col("table") == "labevents"
    _write_column("mimic3_items.csv", pl.when(is_lab).then("itemid"), hours)
    _write_column("meds_mimic_codes.csv", item_of_code, hours)


def _write_column(name: str, item: pl.Expr, hours: pl.DataFrame) -> None:
    rows = pl.read_csv(CONCEPTS / name, infer_schema=False)
    hours = hours.unique("itemid").rename({"itemid": "_item"})
    joined = rows.with_columns(_item=item).join(
        hours, on="_item", how="left", maintain_order="left"
    )
    joined = joined.with_columns(pl.coalesce("_hours", "delay_hours").alias("delay_hours"))
    joined.select(rows.columns).write_csv(CONCEPTS / name)


def _parse_time(column: str) -> pl.Expr:
    return pl.col(column).str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False)


def main() -> None:
    """Measure, print and, if asked, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    items = pl.read_csv(CONCEPTS / "mimic3_items.csv", infer_schema=False)
    item_ids = items.filter(table="labevents")["itemid"]
    delays = measure_delays(arguments.folder, item_ids)
    print(delays.write_csv(), end="")
    if arguments.write:
        write_delays(delays)


if __name__ == "__main__":
    main()
