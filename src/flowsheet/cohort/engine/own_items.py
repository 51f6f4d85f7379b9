"""A database's own file of items, strictly checked."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from flowsheet.cohort import catalogue
from flowsheet.cohort.units import FRACTION_OR_PERCENT, LINEAR_CONVERSIONS
from flowsheet.errors import UsageError, did_you_mean

_REQUIRED = ("kind", "name", "table", "itemid")
_OPTIONAL = ("system", "label", "unit", "convert", "delay_hours", "source", "note")
_KINDS = ("variable", "output", "procedure", "drug")
_ORDER = (
    *("kind", "name", "system", "table", "itemid", "label", "unit", "convert"),
    *("delay_hours", "source", "note"),
)


def read_own_items(file: Path, text: bool = False) -> pl.DataFrame:
    """The items of a CSV file with the columns kind, name, table and itemid, and others.

    With ``text``, itemid is a text; else it is a whole number.

    Raises:
        UsageError: the file, a column or a row is wrong; the message names its line.
    """
    try:
        rows = pl.read_csv(file.read_bytes(), infer_schema=False)
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        what = f"the items cannot be read: {str(error).splitlines()[0]}"
        raise UsageError(what, where=str(file), todo="write a CSV file in UTF-8") from error
    known = (*_REQUIRED, *_OPTIONAL)
    for column in rows.columns:
        if column not in known:
            hint = did_you_mean(column, known)
            raise UsageError(f"the column {column!r} is not valid", where=str(file), todo=hint)
    missing = [column for column in _REQUIRED if column not in rows.columns]
    if missing or rows.is_empty():
        what = f"there is no column {missing[0]!r}" if missing else "there are no rows"
        raise UsageError(what, where=str(file), todo=f"required: {', '.join(_REQUIRED)}")
    for line, row in enumerate(rows.iter_rows(named=True), start=2):
        _check_row(row, f"{file}, line {line}", text)
    absent = [pl.lit(None, pl.String).alias(c) for c in _OPTIONAL if c not in rows.columns]
    filled = rows.with_columns(absent).select(_ORDER)
    numbers = {"itemid": pl.String() if text else pl.Int64(), "delay_hours": pl.Float64()}
    convert = pl.col("convert").fill_null("none")
    return filled.with_columns(convert).cast(numbers)  # type: ignore[arg-type]


def _check_row(row: dict[str, str | None], where: str, text: bool) -> None:
    kind, name = row["kind"] or "", row["name"] or ""
    if kind not in _KINDS:
        raise UsageError(f"there is no kind {kind!r}", where=where, todo=did_you_mean(kind, _KINDS))
    concepts = (
        catalogue.drugs() if kind == "drug" else {**catalogue.variables(), **catalogue.drugs()}
    )
    if name not in concepts:
        what = f"the catalogue has no {kind} called {name!r}"
        raise UsageError(what, where=where, todo=did_you_mean(name, concepts))
    item = (row["itemid"] or "").strip()
    if not item or not (text or item.isdecimal()):
        what = f"itemid={row['itemid']!r} is not a whole number"
        todo = "number the items of the database, or state `text: true` under its `items`"
        raise UsageError(what, where=where, todo=todo)
    convert = row.get("convert") or "none"
    conversions = ("none", *LINEAR_CONVERSIONS, FRACTION_OR_PERCENT, "interval", "present")
    if convert not in (*conversions, *catalogue.mimic3_items()["convert"].unique()):
        what = f"there is no conversion {convert!r}"
        raise UsageError(what, where=where, todo=did_you_mean(convert, conversions))
    delay = row.get("delay_hours") or "0"
    if not delay.replace(".", "", 1).isdecimal():
        what = f"delay_hours={delay!r} is not a number of hours"
        raise UsageError(what, where=where, todo="write a number, 0 or more")
