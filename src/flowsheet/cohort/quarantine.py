"""Validation of a source's batches: rows that break a rule are quarantined with the reason."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import polars as pl

from flowsheet.cohort import checks
from flowsheet.cohort.completeness import LATE_DAYS
from flowsheet.cohort.extract import QUARANTINE
from flowsheet.cohort.rules import clip_to_calendar, is_sorted_unique
from flowsheet.cohort.schema import TABLES, Tables
from flowsheet.cohort.sources.base import StayBatch
from flowsheet.cohort.validation_counts import ValidationCounts, count_by_rule
from flowsheet.cohort.writer import sort_rows
from flowsheet.errors import CheckFailed

ASCENDING = "ascending_stay_id"
"""The rule that a stay comes after all stays of earlier batches; so no stay comes twice."""

STAY_QUARANTINED = "stay_quarantined"
"""The reason for rows that break no rule themselves, but whose stay does."""


class BatchValidator:
    """Validates a batch, and counts for the manifest and the errors."""

    def __init__(self, last_stay: int | None = None) -> None:
        """``last_stay``: the greatest id of a stay of earlier batches."""
        self.counts = ValidationCounts(last_stay=last_stay)
        self._stay_names: dict[int, str] = {}
        """Of the batch: what the records call its stays."""

    def validate_batch(self, batch: StayBatch) -> tuple[Tables, pl.DataFrame]:
        """Separate the rows of a batch that pass from those that are quarantined.

        Returns:
            The tables of the rows that pass, sorted as the contract requires, and the quarantined
            rows; columns as in ``QUARANTINE``.

        Raises:
            CheckFailed: a table of the batch has not the contract's columns and types; this is an
            error of the source.
        """
        _check_shapes(batch)
        self._stay_names = batch.stay_names
        tables = {table: getattr(batch, table) for table in TABLES}
        sorted_unique = {table: is_sorted_unique(table, rows) for table, rows in tables.items()}
        for table, rows in tables.items():
            tables[table] = rows if sorted_unique[table] else sort_rows(table, rows)
        self.counts.rows.update(batch.rows_read)
        quarantined = [self._quarantine_defects(batch.defects, batch.rows_read)]
        offered = tables["stays"]
        stays = self._drop_broken("stays", offered, self._find_stay_failures(offered), quarantined)
        for table in ("events", "treatments", "episodes"):
            rows = self._drop_orphan_rows(table, tables[table], offered, stays, quarantined)
            failures = checks.find_value_failures(
                table, rows, stays, sorted_unique=sorted_unique[table]
            )
            tables[table] = self._drop_broken(table, rows, failures, quarantined)
        without_events = checks.find_stays_without_events(stays, tables["events"])
        passed = self._drop_broken("stays", stays, without_events, quarantined, count_rows=False)
        for table in ("treatments", "episodes"):
            tables[table] = self._drop_orphan_rows(table, tables[table], stays, passed, quarantined)
        for table in ("events", "treatments", "episodes"):
            self.counts.late_stays[table] += _count_late(tables[table], passed)
        self.counts.variables |= set(tables["events"]["variable"].unique())
        self.counts.stay_columns |= {column.name for column in passed if column.count()}
        self._count_stays(batch, offered, stays, passed)
        return Tables(**(tables | {"stays": passed})), pl.concat(quarantined)

    def _find_stay_failures(self, stays: pl.DataFrame) -> pl.DataFrame:
        failures = checks.find_value_failures("stays", stays, stays)
        if self.counts.last_stay is None:
            return failures
        repeated = stays["stay_id"] <= self.counts.last_stay
        out_of_order = checks.list_failures("stays", stays, repeated, "stay_id", ASCENDING)
        return pl.concat([failures, out_of_order])

    def _drop_broken(
        self,
        table: str,
        rows: pl.DataFrame,
        failures: pl.DataFrame,
        quarantined: list[pl.DataFrame],
        *,
        count_rows: bool = True,
    ) -> pl.DataFrame:
        """The rows without those that broke a rule, which are appended to ``quarantined``.

        ``count_rows`` is false if the rows were counted before.
        """
        broken = failures["row"].unique()
        self.counts.rows[table] += rows.height if count_rows else 0
        self.counts.broken_rows[table] += broken.len()
        if failures.is_empty():
            return rows
        failures = self._show_names(failures, rows["stay_id"][failures["row"] - 1])
        self.counts.add_failures(failures)
        numbered = rows.with_row_index("row", offset=1).cast({"row": pl.Int64})
        is_broken = numbered.select(pl.col("row").is_in(broken.implode())).to_series()
        as_json = clip_to_calendar(numbered.filter(is_broken)).select(
            "row", "stay_id", json=pl.struct(rows.columns).struct.json_encode()
        )
        lines = failures.join(as_json, on="row", how="left", maintain_order="left")
        self._quarantine(lines.drop("row").rename({"json": "row"}), quarantined)
        return rows.filter(~is_broken)

    def _drop_orphan_rows(
        self,
        table: str,
        rows: pl.DataFrame,
        stays_before: pl.DataFrame,
        stays_after: pl.DataFrame,
        quarantined: list[pl.DataFrame],
    ) -> pl.DataFrame:
        """The rows without those whose stay was dropped, which are appended to ``quarantined``."""
        dropped = stays_before.join(stays_after, on="stay_id", how="anti")["stay_id"]
        dropped = dropped.drop_nulls().unique()
        if dropped.is_empty():
            return rows
        is_orphan = pl.col("stay_id").is_in(dropped.implode()).fill_null(value=False)
        lines = rows.filter(is_orphan).select(
            table=pl.lit(table),
            stay_id="stay_id",
            key=checks.key_text(table),
            column=pl.lit("stay_id"),
            rule=pl.lit(STAY_QUARANTINED),
            value=pl.col("stay_id").cast(pl.String),
            row=pl.struct(rows.columns).struct.json_encode(),
        )
        self._quarantine(self._show_names(lines, lines["stay_id"]), quarantined)
        return rows.filter(~is_orphan)

    def _show_names(self, lines: pl.DataFrame, stay_ids: pl.Series) -> pl.DataFrame:
        """The lines with what the records call the stays, instead of numbers for their texts.

        Args:
            lines: key, column and value.
            stay_ids: the stay of each line.
        """
        if not self._stay_names:
            return lines
        name = pl.Series([self._stay_names.get(number) for number in stay_ids], dtype=pl.String)
        number = stay_ids.cast(pl.String)
        rest = pl.col("key").str.strip_prefix(pl.lit("stay ") + number)
        named = pl.when(name.is_not_null())
        is_id = pl.col("column") == "stay_id"
        return lines.with_columns(
            key=named.then(pl.concat_str(pl.lit("stay "), name, rest)).otherwise("key"),
            value=pl.when(name.is_not_null() & is_id).then(name).otherwise("value"),
        )

    def _quarantine_defects(self, defects: pl.DataFrame, rows_read: dict[str, int]) -> pl.DataFrame:
        """The quarantine of raw rows that the source could not parse; they count as broken rows."""
        for table, n in defects.group_by("table").len().sort("table").iter_rows():
            if table not in rows_read:
                self.counts.rows[table] += n
            self.counts.broken_rows[table] += n
        failures = defects.with_columns(row=pl.lit(None, pl.Int64)).select(list(checks.FAILURES))
        self.counts.add_failures(failures)
        unknown = {"stay_id": pl.lit(None, pl.Int64), "row": pl.lit(None, pl.String)}
        quarantined: list[pl.DataFrame] = []
        self._quarantine(defects.with_columns(**unknown), quarantined)
        return quarantined[0]

    def _quarantine(self, lines: pl.DataFrame, quarantined: list[pl.DataFrame]) -> None:
        quarantined.append(lines.select(list(QUARANTINE)))
        self.counts.quarantined.update(count_by_rule(lines))

    def _count_stays(
        self,
        batch: StayBatch,
        offered: pl.DataFrame,
        follow_rules: pl.DataFrame,
        passed: pl.DataFrame,
    ) -> None:
        steps = dict(batch.attrition or {"offered by the source": offered.height})
        steps["follow the contract's rules"] = follow_rules.height
        steps["have measurements"] = passed.height
        self.counts.attrition.update(steps)
        self.counts.exclusions.update(batch.exclusions)
        self.counts.source_counts.update(batch.source_counts)
        self.counts.stays += passed.height
        last: Any = offered["stay_id"].max()
        self.counts.see_stay(last)


def _count_late(rows: pl.DataFrame, stays: pl.DataFrame) -> int:
    """Stays of which a row was in the record over ``LATE_DAYS`` after their discharge."""
    latest = rows.group_by("stay_id").agg(pl.col("known_at").max())
    known = latest.join(stays.select("stay_id", "discharged_at"), on="stay_id")
    limit = pl.col("discharged_at") + timedelta(days=LATE_DAYS)
    return known.filter(pl.col("known_at") > limit).height


def _check_shapes(batch: StayBatch) -> None:
    failures = pl.concat(
        checks.find_shape_failures(table, getattr(batch, table)) for table in TABLES
    )
    if failures.height:
        problems = "; ".join(
            f"{row['table']}.{row['column']}: {row['rule']} {row['value'] or ''}"
            for row in failures.to_dicts()
        )
        what = f"the source's tables do not have the contract's columns and types: {problems}"
        raise CheckFailed(what, todo="fix the source")
