"""The log of raw rows that an ingest excludes, and of raw rows that are defective."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import polars as pl

from flowsheet.cohort.engine.cells import TIME_HINT
from flowsheet.cohort.sources.base import DEFECTS
from flowsheet.errors import CheckFailed

MAX_DEFECTS = 200_000
"""Defects of one rule in one table; beyond, the table is refused without reading on."""

ID_FIELDS = ("subject_id", "hadm_id", "stay_id")
"""Fields whose texts are shown, where ids are texts."""

IdTexts = dict[tuple[str, int], str]
"""Texts of ids by field and number: a patient and an admission may have the same number."""

OUTSIDE_ADMISSION = "outside_admission"
"""The rule that a row is dated within its hospital admission, or a week from it."""

RULES = (
    "fields",
    "encoding",
    "id",
    "date",
    "number",
    "flag",
    "unknown_stay",
    "unknown_admission",
    "unit",
    "discharge_before_admission",
    "duplicate_key",
    OUTSIDE_ADMISSION,
)
"""Names of the rules that a defect may break."""


class ExclusionLog:
    """Counts of excluded rows by reason, and the defects, of one pass through the raw tables.

    *Excluded* rows are sound but not used (charted in error, outside the stay, ...). *Rejected*
    rows are defective: they break a rule of ``RULES`` and fall under the quarantine policy.
    """

    def __init__(self, columns: Mapping[str, Mapping[str, str]] | None = None) -> None:
        """``columns``: for each table, the database's column of each field; defects name it."""
        self._columns = columns or {}
        self.counts: Counter[str] = Counter()
        """Excluded rows by reason."""
        self.rows_read: Counter[str] = Counter()
        """Rows of each raw table that are looked at: those of mapped items, and defective ones."""
        self.id_texts: IdTexts = {}
        """The texts of ids that are texts; defects show them."""
        self._files: dict[str, list[tuple[int, str]]] = {}
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

    def open_file(self, table: str, file: str, n_rows_before: int) -> None:
        """Note that the rows after the first ``n_rows_before`` of a table are in this file."""
        self._files.setdefault(table, []).append((n_rows_before, file))

    def unmapped_items(self, table: str, n_rows: int) -> None:
        """Count rows with a valid item id that the catalogue does not map."""
        if n_rows:
            self.counts[f"{table}: items that the catalogue does not map"] += n_rows

    def wrong_cells(self, table: str, cells: pl.DataFrame) -> None:
        """Log rows with a cell that cannot be parsed.

        Args:
            table: name of the raw table.
            cells: (row, column, rule, value), one for each row.

        Raises:
            CheckFailed: more than ``MAX_DEFECTS`` rows of the table break a rule.
        """
        for part in cells.partition_by("rule", maintain_order=True):
            defects = part.with_columns(table=pl.lit(table), key=self._make_key(table))
            self._add_defects(table, part["rule"][0], defects.select(list(DEFECTS)))

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
        broken = rows.filter(mask)
        value = broken[column].cast(pl.String).str.strip_suffix(".000000")
        if self.id_texts and column in ID_FIELDS:
            numbers = broken[column]
            texts = [self.id_texts.get((column, number), str(number)) for number in numbers]
            value = pl.Series(texts, dtype=pl.String()).zip_with(value.is_not_null(), value)
        defects = broken.select(
            table=pl.lit(table),
            key=self._make_key(table),
            column=pl.lit(column),
            rule=pl.lit(rule),
            value=value.str.slice(0, 60),
        )
        self._add_defects(table, rule, defects)
        return rows.filter(~mask)

    def malformed_rows(self, table: str, rows: list[tuple[int, Any]]) -> None:
        """Log rows with too many or too few fields.

        Args:
            table: name of the raw table.
            rows: the row's number in the table, counted from 1, and the ``pyarrow.csv.InvalidRow``.

        Raises:
            CheckFailed: more than ``MAX_DEFECTS`` rows of the table are malformed.
        """
        cells = [
            {
                "row": number,
                "rule": "fields",
                "value": f"{row.actual_columns} fields, not {row.expected_columns}",
            }
            for number, row in rows
        ]
        schema = {"row": pl.Int64(), **DEFECTS}
        self.wrong_cells(table, pl.DataFrame(cells, schema=schema).drop("table", "key"))

    def defects(self) -> pl.DataFrame:
        """All defects, in an order that does not depend on the threads that found them."""
        defects = pl.concat([pl.DataFrame(schema=DEFECTS), *self._defects])
        return defects.sort(list(DEFECTS), nulls_last=True)

    def _make_key(self, table: str) -> pl.Expr:
        """The file of a row, and its number there."""
        key = pl.lit(None, pl.String())
        for n_before, file in self._files.get(table, [(0, table.upper())]):
            number = pl.col("row") - n_before
            is_csv = not file.lower().endswith(".parquet")
            line = pl.format(" (line {})", number + 1) if is_csv else pl.lit("")
            place = pl.format("{} row {}{}", pl.lit(file), number, line)
            key = pl.when(number > 0).then(place).otherwise(key)
        return key

    def _add_defects(self, table: str, rule: str, defects: pl.DataFrame) -> None:
        columns = dict(self._columns.get(table, {}))
        defects = defects.with_columns(pl.col("column").cast(pl.String).replace(columns))
        self._defects.append(defects.cast(pl.Schema(DEFECTS)))
        self._defect_counts[table, rule] += defects.height
        if self._defect_counts[table, rule] > MAX_DEFECTS:
            first = defects.row(0, named=True)
            raise CheckFailed(
                f"{table.upper()}: more than {MAX_DEFECTS:,} rows break the rule {rule!r}",
                where=f"{first['key']}, {first['column'] or ''} {first['value'] or ''}",
                todo=f"fix the table, or copy it again; {TIME_HINT}"
                if rule == "date"
                else "fix the table, or copy it again",
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
