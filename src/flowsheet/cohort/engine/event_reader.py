"""Read the tables of events and of procedures.

Each row becomes (stay, time, known_at, code, value) in the catalogue's unit and is spilled by
groups of stays. What depends on several rows of a stay is done later, in ``events.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from flowsheet.cohort.engine.event_values import convert_values
from flowsheet.cohort.engine.exclusions import ExclusionLog
from flowsheet.cohort.engine.files import RawTable
from flowsheet.cohort.engine.item_map import ItemMap
from flowsheet.cohort.engine.options import DatabaseOptions
from flowsheet.cohort.engine.stay_matcher import StayMatcher
from flowsheet.cohort.engine.table_reader import RowFilter, stream_table
from flowsheet.cohort.schema import TIME
from flowsheet.cohort.spill import Spill

EVENT_COLUMNS = ["stay", "time", "known_at", "code", "value"]

PROCEDURE_INTERVAL = "4h"
"""While a procedure lasts, it gives an event this often."""


@dataclass(frozen=True)
class EventReader:
    """Reads the tables with events and procedures."""

    matcher: StayMatcher
    items: ItemMap
    options: DatabaseOptions
    log: ExclusionLog
    spill: Spill

    def read_events(self, table: RawTable) -> None:
        """Read a table of single values.

        A row is known when it was stored, and not before its time. A result of the laboratory that
        has no such time counts as known after its item's delay; where another table has a copy,
        ``events.py`` replaces this time by the copy's.
        """
        copies = self.items.copies_in(table.name)
        for rows in self._stream(table):
            valid = rows
            if "is_error" in table.kinds:
                is_error = pl.col("is_error") == 1
                valid = self.log.exclude(rows, is_error, f"{table.name}: charted in error")
            if len(copies):  # they are of use only with the time at which they were stored
                is_copy = pl.col("item").is_in(copies.implode())
                valid = valid.filter(~is_copy | pl.col("stored_at").is_not_null())
            self._add(table, self._add_known_at(table, valid))

    def _add_known_at(self, table: RawTable, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows with ``known_at`` instead of ``stored_at``."""
        delays = self.items.of_table(table.name).select("item", "delay").drop_nulls().unique()
        if len(delays) and self.options.lab_delay_hours is not None:
            delay = pl.duration(seconds=round(self.options.lab_delay_hours * 3600))
            delays = delays.with_columns(delay=delay)
            rows = rows.drop("stored_at", strict=False)
        stored_at = pl.col("stored_at") if "stored_at" in rows.columns else pl.lit(None, TIME)
        if len(delays):
            rows = rows.join(delays, on="item", how="left", maintain_order="left")
            stored_at = pl.coalesce(stored_at, pl.col("time") + pl.col("delay"))
        known_at = rows.select(pl.max_horizontal("time", stored_at)).to_series()
        return rows.drop("stored_at", "delay", strict=False).with_columns(known_at=known_at)

    def read_procedures(self, table: RawTable) -> None:
        """Read a table of procedures: 1 during one, 0 at its end and at an extubation.

        A line (``present``) has no 0 at its end, as another line may remain.
        """
        table_items = self.items.of_table(table.name).drop("delay")
        for rows in self._stream(table):
            is_rewritten = pl.col("status").str.to_lowercase() == "rewritten"
            valid = self.log.exclude(rows, is_rewritten, f"{table.name}: rewritten")
            matched = self.matcher.match(valid, table.name, "start", self.log)
            procedures = matched.join(table_items, on="item")
            events = _make_procedure_events(procedures)
            self.spill.add("events", events.select(EVENT_COLUMNS))

    def _stream(self, table: RawTable) -> Iterator[pl.DataFrame]:
        """Frames of the rows whose item is mapped."""
        row_filter = RowFilter("item", self.items.of_table(table.name)["item"].unique())
        return stream_table(table, self.log, row_filter)

    def _add(self, table: RawTable, rows: pl.DataFrame) -> None:
        """Match rows to stays, convert their values and spill them."""
        rows = self.matcher.match(rows, table.name, "time", self.log)
        values = convert_values(rows, table.name, self.items, self.log)
        self.spill.add("events", values.select(EVENT_COLUMNS))


def _make_procedure_events(procedures: pl.DataFrame) -> pl.DataFrame:
    start = pl.col("start")
    end = pl.coalesce("end", "start")
    is_interval = pl.col("convert") == "interval"
    is_present = pl.col("convert") == "present"
    running = procedures.filter(is_interval | is_present, end > start)
    times = pl.datetime_ranges(start, end, interval=PROCEDURE_INTERVAL, closed="left")
    on = running.with_columns(time=times, value=1.0).explode("time")
    off_time = pl.when(is_interval).then(end).otherwise(start)
    off = procedures.filter(~is_present).with_columns(time=off_time, value=0.0)
    return pl.concat([on, off]).with_columns(known_at=pl.max_horizontal("time", "stored_at"))
