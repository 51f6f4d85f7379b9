"""The log of raw rows that an ingest excludes, and of raw rows that are defective."""

from __future__ import annotations

from collections import Counter
from typing import Any

import polars as pl

from flowsheet.cohort.sources.base import DEFECTS
from flowsheet.errors import CheckFailed

MAX_DEFECTS = 200_000
"""Defects of one rule in one table; beyond, the table is refused without reading on."""

RULES = (
    "fields",
    "itemid",
    "date",
    "number",
    "unknown_stay",
    "discharge_before_admission",
    "duplicate_key",
)
"""Names of the rules that a defect may break."""

CONTRACT_TABLES = {
    **dict.fromkeys(("icustays", "admissions", "patients", "services"), "stays"),
    **dict.fromkeys(("chartevents", "labevents", "outputevents", "procedureevents_mv"), "events"),
    **dict.fromkeys(("inputevents_cv", "inputevents_mv", "prescriptions"), "treatments"),
    "microbiologyevents": "treatments",
}
"""The contract's table that the rows of a raw table belong to."""


class ExclusionLog:
    """Counts of excluded rows by reason, and the defects, of one pass through the raw tables.

    *Excluded* rows are sound but not used (charted in error, outside the stay, ...). *Rejected*
    rows are defective: they break a rule of ``RULES`` and fall under the quarantine policy.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        """Excluded rows by reason."""
        self._defects: list[pl.DataFrame] = []
        self._defect_counts: Counter[tuple[str, str]] = Counter()

    def exclude(self, rows: pl.DataFrame, is_excluded: pl.Expr, reason: str) -> pl.DataFrame:
        """Return the rows where ``is_excluded`` is false or null; count the others."""
        mask = _evaluate(rows, is_excluded)
        if not mask.any():
            return rows
        self.counts[reason] += int(mask.sum())
        return rows.filter(~mask)

    def exclude_by_reason(
        self, rows: pl.DataFrame, is_excluded: pl.Expr, reason: pl.Expr
    ) -> pl.DataFrame:
        """Like ``exclude``, with a reason for each row."""
        mask = _evaluate(rows, is_excluded)
        if not mask.any():
            return rows
        reasons = rows.filter(mask).select(reason.alias("reason"))["reason"]
        for name, n in reasons.value_counts().iter_rows():
            self.counts[name] += n
        return rows.filter(~mask)

    def unmapped_items(self, table: str, n_rows: int, invalid_ids: dict[str, int]) -> None:
        """Log rows of items that the catalogue does not map.

        Args:
            table: name of the raw table.
            n_rows: rows with a valid item id that the catalogue does not map.
            invalid_ids: rows by item id, for ids that are not positive integers; these are defects.
        """
        if n_rows:
            self.counts[f"{table}: items that the catalogue does not map"] += n_rows
        for item_id, n in sorted(invalid_ids.items()):
            defect = {
                "table": CONTRACT_TABLES[table],
                "key": f"{table.upper()}, {n:,} rows",
                "column": "itemid",
                "rule": "itemid",
                "value": item_id[:60],
            }
            self._add_defects(table, "itemid", pl.DataFrame([defect], schema=DEFECTS))

    def reject(
        self, rows: pl.DataFrame, is_defective: pl.Expr, table: str, column: str, rule: str
    ) -> pl.DataFrame:
        """Return the rows without the defective ones, which become defects.

        Args:
            rows: rows with their number in the file, counted from 1, in the column ``row``.
            is_defective: true for defective rows; null counts as false.
            table: name of the raw table.
            column: the column with the wrong value, which the defect shows.
            rule: the rule of ``RULES`` that is broken.

        Raises:
            CheckFailed: more than ``MAX_DEFECTS`` rows of the table break the rule.
        """
        mask = _evaluate(rows, is_defective)
        if not mask.any():
            return rows
        defects = rows.filter(mask).select(
            table=pl.lit(CONTRACT_TABLES[table]),
            key=pl.format("{} row {} (line {})", pl.lit(table.upper()), "row", pl.col("row") + 1),
            column=pl.lit(column),
            rule=pl.lit(rule),
            value=pl.col(column).cast(pl.String).str.strip_suffix(".000000").str.slice(0, 60),
        )
        self._add_defects(table, rule, defects)
        return rows.filter(~mask)

    def malformed_row(self, table: str, file: str, number: int, row: Any) -> None:
        """Log a row with too many or too few fields.

        Args:
            table: name of the raw table.
            file: name of the file, for the message.
            number: the row's number in the file, counted from 1.
            row: the ``pyarrow.csv.InvalidRow``.

        Raises:
            CheckFailed: more than ``MAX_DEFECTS`` rows of the table are malformed.
        """
        defect = {
            "table": CONTRACT_TABLES[table],
            "key": f"{file} row {number} (line {number + 1})",
            "column": None,
            "rule": "fields",
            "value": f"{row.actual_columns} fields, not {row.expected_columns}",
        }
        self._add_defects(table, "fields", pl.DataFrame([defect], schema=DEFECTS))

    def defects(self) -> pl.DataFrame:
        """All defects, in an order that does not depend on the threads that found them."""
        defects = pl.concat([pl.DataFrame(schema=DEFECTS), *self._defects])
        return defects.sort(list(DEFECTS), nulls_last=True)

    def _add_defects(self, table: str, rule: str, defects: pl.DataFrame) -> None:
        self._defects.append(defects.cast(pl.Schema(DEFECTS)))
        self._defect_counts[table, rule] += defects.height
        if self._defect_counts[table, rule] > MAX_DEFECTS:
            first = defects.row(0, named=True)
            raise CheckFailed(
                f"{table.upper()}: more than {MAX_DEFECTS:,} rows break the rule {rule!r}",
                where=f"{first['key']}, {first['column'] or ''} {first['value'] or ''}",
                todo="fix the table, or copy it again",
            )


def add_counts(first: dict[str, int], second: dict[str, int]) -> dict[str, int]:
    """The sums of two counts by reason, sorted by reason, without zeros.

    >>> add_counts({"b": 1, "a": 2}, {"b": 3, "c": 0})
    {'a': 2, 'b': 4}
    """
    reasons = sorted({*first, *second})
    sums = {reason: first.get(reason, 0) + second.get(reason, 0) for reason in reasons}
    return {reason: n for reason, n in sums.items() if n}


def _evaluate(rows: pl.DataFrame, condition: pl.Expr) -> pl.Series:
    """The condition as a mask in which null is false."""
    return rows.select(condition.fill_null(value=False)).to_series()
