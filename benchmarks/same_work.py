"""The work of an ingest without labels, as a user of polars would write it for one database.

It reads the columns that the ingest needs, keeps the rows of mapped items, finds their stay,
converts values and doses, excludes implausible ones, keeps one value for each stay, time and
variable, and writes sorted Parquet. It names no malformed row, quarantines nothing, and leaves out
what depends on texts and on several rows (specimens, coma scores, weights in pounds, orders).
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from flowsheet.cohort import catalogue
from flowsheet.cohort.engine.database import Database, load_database
from flowsheet.cohort.engine.files import RawTable, find_tables

BEFORE, AFTER = pl.duration(hours=24), pl.duration(hours=2)
"""How long before and after the stay a row belongs to it."""
TIMES = ("time", "stored_at", "start", "end", "admitted_at", "discharged_at")
NUMBERS = ("number", "amount", "rate", "weight")
IDS = ("subject_id", "stay_id", "hadm_id", "item")


def convert_with_polars(folder: Path, out: Path, source: str) -> int:
    """Write events and treatments; the number of events.

    Args:
        folder: the raw tables.
        out: the folder for the Parquet files.
        source: mimic3 or mimic4.
    """
    database = load_database(source)
    tables = find_tables(database, folder, tuple(database.tables), None, 8 << 20)
    stays = scan(tables[database.stay_table]).select(
        *("stay_id", "subject_id", "admitted_at", "discharged_at")
    )
    stays = stays.collect().sort("subject_id", "admitted_at").lazy()
    by_role = {
        role: [table for table in tables.values() if table.spec.role == role]
        for role in ("events", "infusions", "charted_rates")
    }
    events = [convert_events(table, stays, database) for table in by_role["events"]]
    doses = [
        convert_doses(table, stays, database)
        for table in (*by_role["infusions"], *by_role["charted_rates"])
    ]
    keys = ["stay_id", "time", "variable"]
    one = pl.concat(events).sort(*keys, "known_at", "value").unique(keys, keep="first")
    one.sort(keys).sink_parquet(out / "events.parquet")
    pl.concat(doses).unique().sort("stay_id", "start").sink_parquet(out / "treatments.parquet")
    count = pl.scan_parquet(out / "events.parquet").select(pl.len()).collect()
    return int(count.item())


def scan(table: RawTable) -> pl.LazyFrame:
    """The fields of a table, with their types."""
    frames = [
        pl.scan_csv(file.path, infer_schema=False).select(
            pl.col(name).alias(field) for field, name in file.columns.items()
        )
        for file in table.files
    ]
    rows = pl.concat(frames)
    fields = rows.collect_schema().names()
    return rows.with_columns(
        *(
            pl.col(field).str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False)
            for field in TIMES
            if field in fields
        ),
        pl.col([field for field in NUMBERS if field in fields]).cast(pl.Float64, strict=False),
        pl.col([field for field in IDS if field in fields]).cast(pl.Int64, strict=False),
    )


def add_stays(rows: pl.LazyFrame, stays: pl.LazyFrame, time: str) -> pl.LazyFrame:
    """The rows of the stay that they name, or of their subject's at that time."""
    if "stay_id" in rows.collect_schema().names():
        rows = rows.join(stays.drop("subject_id"), on="stay_id")
    else:
        rows = rows.join(stays, on="subject_id")
    first, last = pl.col("admitted_at") - BEFORE, pl.col("discharged_at") + AFTER
    return rows.filter(pl.col(time).is_between(first, last))


def convert_events(table: RawTable, stays: pl.LazyFrame, database: Database) -> pl.LazyFrame:
    """(stay_id, time, known_at, variable, value) of a table of events."""
    columns = ["code", "factor", "offset", "is_text", "low", "high"]
    known = database.items.of_table(table.name).select("item", "code", "delay").lazy()
    details = database.items.items.select("name", *columns).lazy()
    rows = scan(table).join(known, on="item").join(details, on="code")
    value = pl.col("number") * pl.col("factor") + pl.col("offset")
    value = pl.when("is_text").then(1.0).otherwise(value)
    stored = pl.coalesce("stored_at", pl.col("time") + pl.col("delay"))
    rows = add_stays(rows, stays, "time").with_columns(value=value)
    rows = rows.filter(pl.col("value").is_between("low", "high"))
    known_at = pl.max_horizontal("time", stored)
    return rows.select(
        "stay_id", "time", known_at.alias("known_at"), variable="name", value="value"
    )


def convert_doses(table: RawTable, stays: pl.LazyFrame, database: Database) -> pl.LazyFrame:
    """(stay_id, drug, start, end, known_at, dose) of a table of infusions or charted rates."""
    known = database.items.of_table(table.name).select("item", "code").lazy()
    drugs = database.items.items.filter(kind="drug").select("code", drug="name").lazy()
    units = catalogue.mimic3_units().lazy()
    rows = scan(table)
    start = "start" if "start" in rows.collect_schema().names() else "time"
    rows = add_stays(rows.join(known, on="item").join(drugs, on="code"), stays, start)
    is_rate = pl.col("rate").is_not_null()
    unit = pl.when(is_rate).then("rate_unit").otherwise("amount_unit").str.to_lowercase()
    rows = rows.with_columns(uom=unit.str.replace_all(" ", "", literal=True))
    rows = rows.join(units, on="uom", how="left")
    weight = pl.col("weight") if start == "start" else pl.lit(80.0)
    number = pl.when(is_rate).then("rate").otherwise("amount")
    per_kg = pl.when(pl.col("per_kg") == 1).then(1.0).otherwise(1 / weight)
    dose = number * pl.col("size") * pl.col("per_hour").fill_null(1.0) * per_kg
    end = pl.col("end") if start == "start" else pl.col("time")
    known_at = pl.max_horizontal(start, "stored_at")
    return rows.select("stay_id", "drug", start=start, end=end, known_at=known_at, dose=dose)
