"""The door of a served model: the extract's tables as rows of one long table, as JSON and pandas
can carry it.

Each row names its ``table`` and fills that table's columns; the rest are null. Times are ISO 8601
text without a time zone, as the contract's are. ``discharged_at`` may be left out for a stay that
goes on: its record then ends with the latest fact known.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa

from flowsheet.cohort.schema import TABLES, TIME, Tables, empty_table
from flowsheet.errors import CheckFailed, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

_OMITTED = {"subject_id"}  # no prediction depends on it, and an id that is not sent cannot leak
REQUIRED: dict[str, tuple[str, ...]] = {
    "stays": ("admitted_at",),
    "events": ("time", "known_at", "variable", "value"),
    "treatments": ("drug", "start", "end", "known_at"),
    "episodes": ("onset", "known_at"),
}
"""Columns that a row of the table must fill, beside ``stay_id``."""

COLUMNS: dict[str, pl.DataType] = {
    "table": pl.String(),
    **{
        name: kind
        for table in TABLES.values()
        for name, kind in table.items()
        if name not in _OMITTED
    },
}
"""Columns of the long table, with the contract's types."""

_WANTED = {
    str(pl.Int64()): "give whole numbers",
    str(pl.Float64()): "give numbers",
    str(pl.String()): "give text",
    str(TIME): "give ISO 8601 text without a time zone, such as 2000-01-01T08:30:00",
}


def to_rows(tables: Tables) -> pd.DataFrame:
    """The long table of these tables."""
    parts = []
    for name in TABLES:
        frame: pl.DataFrame = getattr(tables, name)
        parts.append(frame.select(pl.lit(name).alias("table"), pl.exclude(_OMITTED)))
    rows = pl.concat([pl.DataFrame(schema=COLUMNS), *parts], how="diagonal")
    text = rows.with_columns(pl.col(TIME).dt.to_string("iso:strict"))
    return text.to_pandas()


def from_rows(rows: pd.DataFrame) -> Tables:
    """The tables that a long table holds.

    Raises:
        CheckFailed: a row names no table or stay, lacks a value, or has a time that is none; a stay
            is told twice or not at all.
    """
    frame = _typed(rows)
    known = pl.col("table").is_in(list(TABLES))
    if len(strange := frame.filter(known.not_() | pl.col("table").is_null())):
        word = str(strange["table"][0])
        raise CheckFailed(
            f"{word!r} is no table", f"row {strange['row'][0]}, table", did_you_mean(word, TABLES)
        )
    parts = {name: _part(frame, name) for name in TABLES}
    stays = parts["stays"].with_columns(subject_id="stay_id").select(list(TABLES["stays"]))
    tables = Tables(stays, parts["events"], parts["treatments"], parts["episodes"])
    _check_stays(tables)
    return Tables(ended(tables), tables.events, tables.treatments, tables.episodes)


def example_tables() -> Tables:
    """Two invented stays: what a request looks like."""
    start = datetime(2000, 1, 1, 8)

    def at(hours: float) -> datetime:
        return start + timedelta(hours=hours)

    stays = [
        {
            "stay_id": 1,
            "admitted_at": at(0),
            "discharged_at": at(50),
            "age": 67.0,
            "sex": "F",
            "unit": "MICU",
        },
        {"stay_id": 2, "admitted_at": at(1), "discharged_at": at(31), "age": 48.0, "sex": "M"},
    ]
    charted = [
        (1, 1, "hr", 92.0),
        (1, 26, "hr", 118.0),
        (1, 26.5, "temp", 38.9),
        (2, 3, "hr", 74.0),
    ]
    events = [
        {
            "stay_id": stay,
            "time": at(hours),
            "known_at": at(hours),
            "variable": variable,
            "value": value,
        }
        for stay, hours, variable, value in charted
    ]
    given = {
        "stay_id": 1,
        "drug": "norepinephrine",
        "start": at(27),
        "end": at(40),
        "known_at": at(27),
    }
    given |= {"dose": 4.0, "unit": "mcg/kg"}
    return Tables(
        _made("stays", stays),
        _made("events", events),
        _made("treatments", [given]),
        empty_table("episodes"),
    )


def _made(table: str, rows: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=TABLES[table])


def _typed(rows: pd.DataFrame) -> pl.DataFrame:
    """The columns of the door and no others, with the contract's types; ``row`` counts from 0."""
    given = {name: _column(rows, name, kind) for name, kind in COLUMNS.items()}
    return pl.DataFrame(given).with_row_index("row")


def _column(rows: pd.DataFrame, name: str, kind: pl.DataType) -> pl.Series:
    if name not in rows or len(rows) == 0:
        return pl.Series(name, [None] * len(rows), kind)
    try:
        told = pl.from_pandas(rows[name])
        read = pl.from_pandas(_times(rows[name])) if kind == TIME else told
    except (TypeError, ValueError, pa.ArrowException) as error:
        raise CheckFailed(
            f"values of {name} are of several kinds", name, _WANTED.get(str(kind))
        ) from error
    if isinstance(read.dtype, pl.Datetime) and read.dtype.time_zone is not None:
        raise CheckFailed(
            "times carry a time zone; the record's times have none", name, _WANTED[str(TIME)]
        )
    typed = read.cast(kind, strict=False)
    if (lost := (typed.is_null() & told.is_not_null()).arg_true()).len():
        raise CheckFailed(
            f"{told[lost[0]]!r} cannot be read as {name}",
            f"row {lost[0]}, {name}",
            _WANTED[str(kind)],
        )
    return typed.alias(name)


def _times(values: pd.Series[Any]) -> pd.Series[Any]:
    import pandas as pd

    return pd.to_datetime(values, format="ISO8601", errors="coerce")


def _part(frame: pl.DataFrame, table: str) -> pl.DataFrame:
    rows = frame.filter(pl.col("table") == table)
    for column in ("stay_id", *REQUIRED[table]):
        if len(lacking := rows.filter(pl.col(column).is_null())):
            raise CheckFailed(
                f"{len(lacking)} rows of {table} have no {column}",
                f"row {lacking['row'][0]}, {column}",
                f"rows of {table} need: stay_id, {', '.join(REQUIRED[table])}",
            )
    return rows.select(name for name in TABLES[table] if name not in _OMITTED)


def _check_stays(tables: Tables) -> None:
    stays = tables.stays["stay_id"]
    if (twice := tables.stays.filter(pl.col("stay_id").is_duplicated())).height:
        raise CheckFailed("a stay is told twice", f"stays, stay {twice['stay_id'][0]}")
    for name in ("events", "treatments", "episodes"):
        facts: pl.DataFrame = getattr(tables, name)
        if len(lost := facts.filter(pl.col("stay_id").is_in(stays.implode()).not_())):
            raise CheckFailed(
                f"{len(lost)} rows of {name} belong to no stay that was sent",
                f"{name}, stay {lost['stay_id'][0]}",
                "send the stay's row of the table stays along",
            )


def ended(tables: Tables) -> pl.DataFrame:
    """The stays; one that goes on ends, for now, with the latest fact known."""
    if not tables.stays["discharged_at"].has_nulls():
        return tables.stays
    facts = (tables.events, tables.treatments, tables.episodes)
    latest = (
        pl.concat([f.select("stay_id", "known_at") for f in facts])
        .group_by("stay_id")
        .agg(pl.max("known_at"))
    )
    joined = tables.stays.join(latest, on="stay_id", how="left", maintain_order="left")
    end = pl.coalesce("discharged_at", pl.max_horizontal("known_at", "admitted_at"))
    return joined.with_columns(discharged_at=end).drop("known_at")
