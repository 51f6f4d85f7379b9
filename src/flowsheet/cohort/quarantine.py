"""Batch by batch: rows that keep the contract pass, the others are set aside with the reason and counted."""

from __future__ import annotations

from collections import Counter
from typing import Any

import polars as pl

from flowsheet.cohort import checks
from flowsheet.cohort.extract import QUARANTINE, QuarantineEntry
from flowsheet.cohort.rules import clip_to_calendar, is_sorted_unique
from flowsheet.cohort.schema import TABLES, Tables
from flowsheet.cohort.sources.base import StayBatch
from flowsheet.cohort.writer import sort_rows
from flowsheet.config import Policy, QuarantineConfig
from flowsheet.errors import CheckFailed

ASCENDING = "ascending_stay_id"
"""A stay comes after all stays of earlier batches; so no stay comes twice."""

STAY_QUARANTINED = "stay_quarantined"
"""The reason for rows that keep every rule themselves but whose stay does not."""

_KEPT_EXAMPLES = 1000


class Sieve:
    """Sifts batches under a quarantine policy and keeps the tallies that the manifest and a refusal need."""

    def __init__(self, config: QuarantineConfig) -> None:
        self.config = config
        self.kept = 0
        self.counts: Counter[tuple[str, str]] = Counter()
        """Failures per (table, rule)."""
        self.quarantined: Counter[tuple[str, str]] = Counter()
        """Lines of the quarantine per (table, rule)."""
        self.rejected: set[str] = set()
        """Rules broken whose policy is to reject."""
        self.attrition: Counter[str] = Counter()
        self.exclusions: Counter[str] = Counter()
        self.source_counts: Counter[str] = Counter()
        self._offered: Counter[str] = Counter()
        self._broken: Counter[str] = Counter()
        self._examples: list[pl.DataFrame] = []
        self._last: int | None = None

    def sift(self, batch: StayBatch) -> tuple[Tables, pl.DataFrame]:
        """The rows that pass, in the contract's order, and the quarantined ones as rows of
        ``QUARANTINE``.

        Raises:
            CheckFailed: a table of the batch has not the contract's columns and types: the source
            is at fault.
        """
        _check_shapes(batch)
        apart = {table: is_sorted_unique(table, getattr(batch, table)) for table in TABLES}
        tables = {
            t: getattr(batch, t) if apart[t] else sort_rows(t, getattr(batch, t)) for t in TABLES
        }
        aside = [self._defects(batch.defects)]
        stays = self._drop("stays", tables["stays"], self._stay_failures(tables["stays"]), aside)
        for table in ("events", "treatments", "episodes"):
            rows = self._follow(table, tables[table], tables["stays"], stays, aside)
            broken = checks.find_value_failures(table, rows, stays, apart=apart[table])
            tables[table] = self._drop(table, rows, broken, aside)
        sound = self._drop(
            "stays",
            stays,
            checks.find_stays_without_events(stays, tables["events"]),
            aside,
            new=False,
        )
        for table in ("treatments", "episodes"):
            tables[table] = self._follow(table, tables[table], stays, sound, aside)
        self._count_stays(batch, tables["stays"], stays, sound)
        return Tables(**(tables | {"stays": sound})), pl.concat(aside)

    def shares(self) -> dict[str, float]:
        """Per table, the share of its rows that broke a rule themselves."""
        return {table: self._broken[table] / n for table, n in self._offered.items() if n}

    def entries(self) -> tuple[QuarantineEntry, ...]:
        """The quarantine's counts for the manifest."""
        ordered = sorted(self.quarantined.items())
        return tuple(
            QuarantineEntry(table=table, rule=rule, rows=n) for (table, rule), n in ordered
        )

    def examples(self, n: int) -> pl.DataFrame:
        """The first failures, of every rule some."""
        every = pl.concat([pl.DataFrame(schema=checks.FAILURES), *self._examples])
        turn = pl.int_range(pl.len()).over("table", "rule")
        return every.with_columns(turn=turn).sort("turn", maintain_order=True).head(n).drop("turn")

    def _stay_failures(self, stays: pl.DataFrame) -> pl.DataFrame:
        found = checks.find_value_failures("stays", stays, stays)
        if self._last is None:
            return found
        return pl.concat(
            [
                found,
                checks.list_failures(
                    "stays", stays, stays["stay_id"] <= self._last, "stay_id", ASCENDING
                ),
            ]
        )

    def _drop(
        self,
        table: str,
        rows: pl.DataFrame,
        found: pl.DataFrame,
        aside: list[pl.DataFrame],
        *,
        new: bool = True,
    ) -> pl.DataFrame:
        """The rows without those that broke a rule; these go aside. ``new``: the rows were not counted yet."""
        broken = found["row"].unique()
        self._offered[table] += rows.height if new else 0
        self._broken[table] += broken.len()
        if found.is_empty():
            return rows
        self._tally(found)
        numbered = rows.with_row_index("row", offset=1).cast({"row": pl.Int64})
        gone = numbered.select(pl.col("row").is_in(broken.implode())).to_series()
        as_json = clip_to_calendar(numbered.filter(gone)).select(
            "row", "stay_id", json=pl.struct(rows.columns).struct.json_encode()
        )
        lines = found.join(as_json, on="row", how="left", maintain_order="left")
        self._set_aside(lines.drop("row").rename({"json": "row"}), aside)
        return rows.filter(~gone)

    def _follow(
        self,
        table: str,
        rows: pl.DataFrame,
        offered: pl.DataFrame,
        kept: pl.DataFrame,
        aside: list[pl.DataFrame],
    ) -> pl.DataFrame:
        """The rows without those whose stay was offered and not kept; these go aside with it."""
        lost = offered.join(kept, on="stay_id", how="anti")["stay_id"].drop_nulls().unique()
        if lost.is_empty():
            return rows
        gone = pl.col("stay_id").is_in(lost.implode()).fill_null(value=False)
        lines = rows.filter(gone).select(
            table=pl.lit(table),
            stay_id="stay_id",
            key=checks.key_text(table),
            column=pl.lit("stay_id"),
            rule=pl.lit(STAY_QUARANTINED),
            value=pl.col("stay_id").cast(pl.String),
            row=pl.struct(rows.columns).struct.json_encode(),
        )
        self._set_aside(lines, aside)
        return rows.filter(~gone)

    def _defects(self, defects: pl.DataFrame) -> pl.DataFrame:
        """Raw rows that could not become rows: they were offered, and broke a rule."""
        for table, n in defects.group_by("table").len().iter_rows():
            self._offered[table] += n
            self._broken[table] += n
        self._tally(defects.with_columns(row=pl.lit(None, pl.Int64)).select(list(checks.FAILURES)))
        aside: list[pl.DataFrame] = []
        empty = {"stay_id": pl.lit(None, pl.Int64), "row": pl.lit(None, pl.String)}
        self._set_aside(defects.with_columns(**empty), aside)
        return aside[0]

    def _set_aside(self, lines: pl.DataFrame, aside: list[pl.DataFrame]) -> None:
        aside.append(lines.select(list(QUARANTINE)))
        self.quarantined.update(_per_rule(lines))

    def _tally(self, found: pl.DataFrame) -> None:
        counted = _per_rule(found)
        self.counts.update(counted)
        self.rejected |= {rule for _, rule in counted if self._policy(rule) is Policy.reject}
        if sum(part.height for part in self._examples) < _KEPT_EXAMPLES:
            self._examples.append(found.filter(pl.int_range(pl.len()).over("table", "rule") < 5))

    def _policy(self, rule: str) -> Policy:
        return self.config.rules.get(rule, self.config.default)

    def _count_stays(
        self, batch: StayBatch, offered: pl.DataFrame, stays: pl.DataFrame, sound: pl.DataFrame
    ) -> None:
        steps = batch.attrition or {"offered by the source": offered.height}
        own = {"keep the contract's rules": stays.height, "have measurements": sound.height}
        self.attrition.update({**steps, **own})
        self.exclusions.update(batch.exclusions)
        self.source_counts.update(batch.source_counts)
        self.kept += sound.height
        last: Any = offered["stay_id"].max()
        self._last = (
            last if self._last is None or (last is not None and last > self._last) else self._last
        )


def _per_rule(lines: pl.DataFrame) -> dict[tuple[str, str], int]:
    counted = lines.group_by("table", "rule").len().sort("table", "rule")
    return {(table, rule): n for table, rule, n in counted.iter_rows()}


def _check_shapes(batch: StayBatch) -> None:
    broken = pl.concat(checks.find_shape_failures(table, getattr(batch, table)) for table in TABLES)
    if broken.height:
        rows = "; ".join(
            f"{r['table']}.{r['column']}: {r['rule']} {r['value'] or ''}" for r in broken.to_dicts()
        )
        raise CheckFailed(
            f"the source does not fill the contract's tables: {rows}", todo="mend the source"
        )
