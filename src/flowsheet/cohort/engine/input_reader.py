"""Read the tables of infusions and of charted rates.

Rows are matched to stays, their units are brought to one spelling, and they are spilled by groups
of stays. They become treatments in ``treatments.py``. Items that are no drugs become events.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import polars as pl

from flowsheet.cohort.engine.antibiotics import GIVEN, list_anti_infectives
from flowsheet.cohort.engine.event_reader import EVENT_COLUMNS
from flowsheet.cohort.engine.event_values import convert_values
from flowsheet.cohort.engine.exclusions import ExclusionLog
from flowsheet.cohort.engine.files import RawTable
from flowsheet.cohort.engine.item_map import ItemMap
from flowsheet.cohort.engine.stay_matcher import StayMatcher
from flowsheet.cohort.engine.table_reader import RowFilter, stream_table
from flowsheet.cohort.spill import Spill
from flowsheet.cohort.units import fold_units

_SINGLE_DOSE_CATEGORIES = ("drug push", "bolus", "non iv meds")
"""Categories of single doses."""
_START_WORDS = ("started", "restart")
_STOP_WORDS = ("stopped", "d/c'd")
_COLUMNS = ["stay", "code", "stored_at", "amount", "amount_unit", "rate", "rate_unit"]
_ROUTE = "intravenous"
"""Of a dose whose route is not charted."""


@dataclass(frozen=True)
class InputReader:
    """Reads the tables with inputs."""

    matcher: StayMatcher
    items: ItemMap
    log: ExclusionLog
    spill: Spill
    admissions: pl.DataFrame
    """(stay_id, hadm_id) of all stays."""
    given: list[pl.DataFrame] = field(default_factory=list)
    """Anti-infectives that were charted as given in an admission; columns ``GIVEN``."""

    def collect_antibiotics(self) -> pl.DataFrame:
        """The anti-infectives of all admissions, in whichever of their stays they were given."""
        return pl.concat([pl.DataFrame(schema=GIVEN), *self.given])

    def read_infusions(self, table: RawTable) -> None:
        """Read a table in which each stretch of an infusion has a start, an end and a rate."""
        for rows in self._stream(table):
            is_rewritten = pl.col("status").str.to_lowercase() == "rewritten"
            inputs = self.log.exclude(rows, is_rewritten, f"{table.name}: rewritten")
            inputs = inputs.with_columns(pl.coalesce("end", "start"))
            ends_too_early = pl.col("end") < pl.col("start")
            reason = f"{table.name}: ends before it starts"
            inputs = self.log.exclude(inputs, ends_too_early, reason)
            category = pl.col("category").cast(pl.String).str.to_lowercase()
            is_single_dose = category.is_in(_SINGLE_DOSE_CATEGORIES)
            end = pl.when(is_single_dose).then("start").otherwise("end")
            self._add_antibiotics(inputs, table.name, "start", end)
            inputs = self.matcher.match(inputs, table.name, "start", self.log)
            inputs = self._add_events(inputs, table.name, "start")
            columns = [*_COLUMNS, "start", "end", "weight"]
            inputs = inputs.select(*columns, is_single_dose=is_single_dose)
            self.spill.add(f"infusions {table.name}", inputs)

    def read_charted_rates(self, table: RawTable) -> None:
        """Read a table in which rates and amounts are charted from time to time."""
        for rows in self._stream(table):
            self._add_antibiotics(rows, table.name, "time", pl.col("time"))
            inputs = self.matcher.match(rows, table.name, "time", self.log)
            inputs = self._add_events(inputs, table.name, "time")
            action = pl.col("stopped").cast(pl.String).str.to_lowercase().fill_null("")
            inputs = inputs.select(
                *(*_COLUMNS, "order_id", "time"),
                route=pl.col("route").fill_null(_ROUTE),
                is_start=action.is_in(_START_WORDS),
                is_stop=action.is_in(_STOP_WORDS),
            )
            self.spill.add(f"charted_rates {table.name}", inputs)

    def _add_events(self, inputs: pl.DataFrame, table: str, time: str) -> pl.DataFrame:
        """Spill the rows of items that are no drugs as events.

        Args:
            inputs: matched rows with ``code``, ``kind`` and amount.
            table: name of the raw table.
            time: the column with the time of the event.

        Returns:
            The rows of drugs.
        """
        is_drug = pl.col("kind") == "drug"
        known_at = pl.max_horizontal(time, "stored_at").alias("known_at")
        others = inputs.filter(~is_drug).with_columns(known_at)
        others = others.with_columns(time=time, number="amount")
        values = convert_values(others, table, self.items, self.log)
        self.spill.add("events", values.select(EVENT_COLUMNS))
        return inputs.filter(is_drug)

    def _add_antibiotics(self, inputs: pl.DataFrame, table: str, start: str, end: pl.Expr) -> None:
        """Collect the rows with anti-infectives, whichever stay they belong to.

        Args:
            inputs: rows of known items with ``code``, amount and rate.
            table: name of the raw table.
            start: the column with the start of the dose.
            end: the end of the dose.
        """
        is_given = (pl.col("amount").fill_null(0) > 0) | (pl.col("rate").fill_null(0) > 0)
        has_no_dose = pl.all_horizontal(pl.col("amount", "rate").is_null())
        is_given |= has_no_dose & pl.col("event").is_not_null()  # which ``keep`` has selected
        rows = inputs.filter(is_given).join(self._anti_infectives, on="code")
        of_stay = self.admissions.rename({"hadm_id": "_hadm_id"})
        rows = rows.join(of_stay, on="stay_id", how="left", maintain_order="left")
        rows = rows.with_columns(hadm_id=pl.coalesce("_hadm_id", "hadm_id"))
        rows = rows.drop_nulls(["hadm_id", start])
        given = rows.select(
            "hadm_id",
            drug="drug",
            time=start,
            end=end,
            known_at=pl.max_horizontal(start, "stored_at"),
            route=pl.col("route").fill_null(_ROUTE),
            source=pl.lit(table),
        )
        self.given.append(given.cast(pl.Schema(GIVEN)))

    def _stream(self, table: RawTable) -> Iterator[pl.DataFrame]:
        """Frames of the rows whose item is mapped, with their code and the units' spelling."""
        table_items = self.items.of_table(table.name).drop("delay")
        row_filter = RowFilter("item", table_items["item"].unique())
        in_grams = pl.col("convert") == "grams"
        for rows in stream_table(table, self.log, row_filter):
            inputs = rows.join(table_items, on="item", maintain_order="left")
            amount_unit = (
                pl.when(in_grams).then(pl.lit("g")).otherwise(fold_units(pl.col("amount_unit")))
            )
            yield inputs.with_columns(
                amount_unit.alias("amount_unit"), fold_units(pl.col("rate_unit"))
            )

    @cached_property
    def _anti_infectives(self) -> pl.DataFrame:
        """(code, drug) of the items that are anti-infectives."""
        drugs = self.items.items.select("code", drug="name")
        return drugs.filter(pl.col("drug").is_in(list_anti_infectives()))
