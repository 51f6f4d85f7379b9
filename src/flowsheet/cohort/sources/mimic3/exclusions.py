"""What is left out, spoilt or met on the way through the raw tables, counted."""

from __future__ import annotations

from collections import Counter
from typing import Any

import polars as pl

from flowsheet.cohort.sources.base import DEFECTS
from flowsheet.errors import CheckFailed

MOST_DEFECTS = 200_000
"""Of one kind in one table: beyond, the table is refused without reading on."""

RULES = (
    "fields",
    "itemid",
    "date",
    "number",
    "unknown_stay",
    "discharge_before_admission",
    "duplicate_key",
)

CONTRACT = {
    **dict.fromkeys(("icustays", "admissions", "patients", "services"), "stays"),
    **dict.fromkeys(("chartevents", "labevents", "outputevents", "procedureevents_mv"), "events"),
    **dict.fromkeys(("inputevents_cv", "inputevents_mv", "prescriptions"), "treatments"),
    "microbiologyevents": "treatments",
}
"""Which of the contract's tables a raw table's rows would have filled."""


class Tally:
    """Counts over one pass through the raw tables."""

    def __init__(self) -> None:
        self.left_out: Counter[str] = Counter()
        self.read: dict[str, int] = {}
        """Rows read of each table."""
        self._defects: list[pl.DataFrame] = []
        self._of_kind: Counter[tuple[str, str]] = Counter()

    def leave_out(self, rows: pl.DataFrame, out: pl.Expr, reason: str) -> pl.DataFrame:
        """The rows without those where ``out`` is true; these are counted. Null counts as false."""
        gone = rows.select(out.fill_null(value=False)).to_series()
        n = int(gone.sum())
        if not n:
            return rows
        self.left_out[reason] += n
        return rows.filter(~gone)

    def leave_out_by(self, rows: pl.DataFrame, out: pl.Expr, reason: pl.Expr) -> pl.DataFrame:
        """As ``leave_out``, with a reason for each row."""
        gone = rows.select(out.fill_null(value=False)).to_series()
        if not gone.any():
            return rows
        for said, n in (
            rows.filter(gone).select(reason.alias("reason"))["reason"].value_counts().iter_rows()
        ):
            self.left_out[said] += n
        return rows.filter(~gone)

    def unmapped(self, table: str, others: int, odd: dict[str, int]) -> None:
        """Rows of items that the catalogue does not map; an item id that is no number is a defect."""
        if others:
            self.left_out[f"{table}: items that the catalogue does not map"] += others
        for item, n in sorted(odd.items()):
            cells = {
                "table": CONTRACT[table],
                "key": f"{table.upper()}, {n:,} rows",
                "column": "itemid",
            }
            lines = pl.DataFrame([cells | {"rule": "itemid", "value": item[:60]}], schema=DEFECTS)
            self.add(table, "itemid", lines)

    def spoil(
        self, rows: pl.DataFrame, bad: pl.Expr, table: str, column: str, rule: str
    ) -> pl.DataFrame:
        """The rows without those where ``bad`` is true; these become defects named by their ``row``."""
        spoilt = rows.select(bad.fill_null(value=False)).to_series()
        if not spoilt.any():
            return rows
        lines = rows.filter(spoilt).select(
            table=pl.lit(CONTRACT[table]),
            key=pl.format("{} row {} (line {})", pl.lit(table.upper()), "row", pl.col("row") + 1),
            column=pl.lit(column),
            rule=pl.lit(rule),
            value=pl.col(column).cast(pl.String).str.strip_suffix(".000000").str.slice(0, 60),
        )
        self.add(table, rule, lines)
        return rows.filter(~spoilt)

    def misshapen(self, table: str, file: str, number: int, row: Any) -> None:
        """A row with too many or too few fields, as pyarrow tells it."""
        key = f"{file} row {number} (line {number + 1})"
        value = f"{row.actual_columns} fields, not {row.expected_columns}"
        cells = {
            "table": CONTRACT[table],
            "key": key,
            "column": None,
            "rule": "fields",
            "value": value,
        }
        self.add(table, "fields", pl.DataFrame([cells], schema=DEFECTS))

    def add(self, table: str, rule: str, lines: pl.DataFrame) -> None:
        """Some defects.

        Raises:
            CheckFailed: there are so many that the table means something else than it should.
        """
        self._defects.append(lines.cast(pl.Schema(DEFECTS)))
        self._of_kind[table, rule] += lines.height
        if self._of_kind[table, rule] > MOST_DEFECTS:
            first = lines.row(0, named=True)
            what = f"{table.upper()}: more than {MOST_DEFECTS:,} rows break the rule {rule!r}"
            shown = f"{first['key']}, {first['column'] or ''} {first['value'] or ''}"
            raise CheckFailed(what, where=shown, todo="mend the table, or copy it again")

    def defects(self) -> pl.DataFrame:
        """All defects, in an order that does not depend on the threads that found them."""
        return pl.concat([pl.DataFrame(schema=DEFECTS), *self._defects]).sort(
            list(DEFECTS), nulls_last=True
        )


def whole(frame: pl.DataFrame, *columns: str) -> pl.DataFrame:
    """Columns as whole numbers; what is none becomes null."""
    for column in columns:
        if frame.schema[column] == pl.Int64():
            continue
        value = pl.col(column)
        made = frame.select(value.cast(pl.Int64, strict=False)).to_series()
        if frame.schema[column] == pl.String():
            unread = frame.select((value != "").fill_null(value=False)).to_series() & made.is_null()
            if unread.any():  # some programs write 12.0
                made = frame.select(
                    value.cast(pl.Float64, strict=False).cast(pl.Int64, strict=False)
                ).to_series()
        frame = frame.with_columns(made.alias(column))
    return frame


def numbers(frame: pl.DataFrame, *columns: str) -> pl.DataFrame:
    """Columns as numbers; what is none, and what is not finite, becomes null."""
    made = frame.with_columns(pl.col(columns).cast(pl.Float64, strict=False))
    return made.with_columns(
        pl.when(pl.col(c).is_finite()).then(pl.col(c)).alias(c) for c in columns
    )


def moments(frame: pl.DataFrame, table: str, tally: Tally, *columns: str) -> pl.DataFrame:
    """Columns as times; rows with a time that cannot be read become defects. Nothing stays nothing."""
    for column in columns:
        if frame.schema[column] != pl.String():
            frame = frame.with_columns(pl.col(column).cast(pl.Datetime("us")))
            continue
        text = pl.col(column)
        made = text.str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="us", strict=False, cache=False)
        frame = frame.with_columns(made.alias("_made"))
        if (unread := frame.filter(pl.col("_made").is_null() & (text != ""))).height:
            short = unread.select(
                text.str.to_datetime("%Y-%m-%d", time_unit="us", strict=False)
            ).to_series()
            if short.null_count() < unread.height:
                day = text.str.to_datetime("%Y-%m-%d", time_unit="us", strict=False)
                frame = frame.with_columns(pl.coalesce("_made", day).alias("_made"))
            frame = tally.spoil(
                frame, pl.col("_made").is_null() & (text != ""), table, column, "date"
            )
        frame = frame.drop(column).rename({"_made": column})
    return frame
