"""Read CHARTEVENTS, LABEVENTS, OUTPUTEVENTS and PROCEDUREEVENTS_MV.

Each row becomes (stay, time, known_at, code, value) in the catalogue's unit and is spilled by
groups of stays. What depends on several rows of a stay is done later, in ``events.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from flowsheet.cohort.sources.mimic3.event_values import convert_values
from flowsheet.cohort.sources.mimic3.exclusions import ExclusionLog
from flowsheet.cohort.sources.mimic3.files import RawTable
from flowsheet.cohort.sources.mimic3.item_map import (
    load_copies,
    load_delays,
    load_table_items,
)
from flowsheet.cohort.sources.mimic3.options import Mimic3Options
from flowsheet.cohort.sources.mimic3.stay_matcher import StayMatcher
from flowsheet.cohort.sources.mimic3.table_reader import RowFilter, stream_table
from flowsheet.cohort.spill import Spill

EVENT_COLUMNS = ["stay", "time", "known_at", "code", "value"]

_PROCEDURE_INTERVAL = "4h"
"""While a procedure of PROCEDUREEVENTS_MV lasts, it gives an event this often."""


@dataclass(frozen=True)
class EventReader:
    """Reads the tables with events; one method per table."""

    matcher: StayMatcher
    options: Mimic3Options
    log: ExclusionLog
    spill: Spill

    def read_chartevents(self, table: RawTable) -> None:
        """Read CHARTEVENTS."""
        for rows in self._stream(table):
            is_error = pl.col("error") == 1
            valid = self.log.exclude(rows, is_error, "chartevents: charted in error")
            is_copy = pl.col("itemid").is_in(load_copies()["itemid"].implode())
            valid = valid.filter(~is_copy | pl.col("storetime").is_not_null())
            self._add(table, valid, pl.max_horizontal("charttime", "storetime"), "valuenum")

    def read_labevents(self, table: RawTable) -> None:
        """Read LABEVENTS; a result counts as known after its item's delay.

        Where CHARTEVENTS has a copy, ``events.py`` replaces this time by the copy's.
        """
        delays = load_delays()
        if self.options.lab_delay_hours is not None:
            hours = self.options.lab_delay_hours
            delays = delays.with_columns(delay=pl.duration(seconds=round(hours * 3600)))
        for rows in self._stream(table):
            delayed = rows.join(delays, on="itemid", maintain_order="left")
            self._add(table, delayed, pl.col("charttime") + pl.col("delay"), "valuenum")

    def read_outputevents(self, table: RawTable) -> None:
        """Read OUTPUTEVENTS."""
        for rows in self._stream(table):
            is_error = pl.col("iserror") == 1
            valid = self.log.exclude(rows, is_error, "outputevents: charted in error")
            self._add(table, valid, pl.max_horizontal("charttime", "storetime"), "value")

    def read_procedureevents(self, table: RawTable) -> None:
        """Read PROCEDUREEVENTS_MV: 1 during a procedure, 0 at its end and at an extubation.

        A line (``present``) has no 0 at its end, as another line may remain.
        """
        for rows in self._stream(table):
            is_rewritten = pl.col("statusdescription").str.to_lowercase() == "rewritten"
            valid = self.log.exclude(rows, is_rewritten, "procedureevents_mv: rewritten")
            matched = self.matcher.match(valid, table.name, "starttime", self.log)
            procedures = matched.join(load_table_items(table.name), on="itemid")
            events = _make_procedure_events(procedures)
            self.spill.add("events", events.select(EVENT_COLUMNS))

    def _stream(self, table: RawTable) -> Iterator[pl.DataFrame]:
        """Frames of the rows whose item is mapped."""
        row_filter = RowFilter("itemid", load_table_items(table.name)["itemid"].unique())
        return stream_table(table, self.log, row_filter)

    def _add(
        self, table: RawTable, rows: pl.DataFrame, known_at: pl.Expr, number_column: str
    ) -> None:
        """Match rows to stays, convert their values and spill them.

        Args:
            table: the raw table.
            rows: its rows with ids and times parsed.
            known_at: when a row was in the record.
            number_column: the column with the number, valuenum or value.
        """
        known = rows.select(known_at).to_series()
        rows = rows.drop("storetime", strict=False).with_columns(known_at=known)
        rows = self.matcher.match(rows, table.name, "charttime", self.log)
        rows = rows.rename({"charttime": "time"})
        values = convert_values(rows, table.name, number_column, self.log)
        self.spill.add("events", values.select(EVENT_COLUMNS))


def _make_procedure_events(procedures: pl.DataFrame) -> pl.DataFrame:
    start = pl.col("starttime")
    end = pl.coalesce("endtime", "starttime")
    is_interval = pl.col("convert") == "interval"
    is_present = pl.col("convert") == "present"
    running = procedures.filter(is_interval | is_present, end > start)
    times = pl.datetime_ranges(start, end, interval=_PROCEDURE_INTERVAL, closed="left")
    on = running.with_columns(time=times, value=1.0).explode("time")
    off_time = pl.when(is_interval).then(end).otherwise(start)
    off = procedures.filter(~is_present).with_columns(time=off_time, value=0.0)
    return pl.concat([on, off]).with_columns(known_at=pl.max_horizontal("time", "storetime"))
