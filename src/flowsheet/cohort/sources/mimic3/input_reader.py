"""Read INPUTEVENTS_MV and INPUTEVENTS_CV.

Rows are matched to stays, their units are brought to one spelling, and they are spilled by groups
of stays. They become treatments in ``treatments.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from flowsheet.cohort.sources.mimic3.cells import parse_integers, parse_numbers, parse_times
from flowsheet.cohort.sources.mimic3.exclusions import ExclusionLog
from flowsheet.cohort.sources.mimic3.files import RawTable
from flowsheet.cohort.sources.mimic3.item_map import load_table_items
from flowsheet.cohort.sources.mimic3.stay_matcher import StayMatcher
from flowsheet.cohort.sources.mimic3.table_reader import RowFilter, stream_table
from flowsheet.cohort.spill import Spill

_SINGLE_DOSE_CATEGORIES = ("drug push", "bolus", "non iv meds")
"""MetaVision's order categories of single doses."""
_STOP_WORDS = ("stopped", "d/c'd")
_IDS = ("subject_id", "icustay_id", "itemid")
_COLUMNS = ["stay", "code", "storetime", "amount", "amountuom", "rate", "rateuom"]


@dataclass(frozen=True)
class InputReader:
    """Reads the tables with inputs; one method per table."""

    matcher: StayMatcher
    log: ExclusionLog
    spill: Spill

    def read_metavision(self, table: RawTable) -> None:
        """Read INPUTEVENTS_MV."""
        for rows in self._stream(table, "starttime", "endtime", "storetime"):
            inputs = parse_numbers(rows, "amount", "rate", "patientweight")
            is_rewritten = pl.col("statusdescription").str.to_lowercase() == "rewritten"
            inputs = self.log.exclude(inputs, is_rewritten, "inputevents_mv: rewritten")
            inputs = inputs.with_columns(pl.coalesce("endtime", "starttime"))
            ends_too_early = pl.col("endtime") < pl.col("starttime")
            reason = "inputevents_mv: ends before it starts"
            inputs = self.log.exclude(inputs, ends_too_early, reason)
            inputs = self.matcher.match(inputs, table.name, "starttime", self.log)
            category = pl.col("ordercategorydescription").cast(pl.String).str.to_lowercase()
            is_single_dose = category.is_in(_SINGLE_DOSE_CATEGORIES)
            columns = [*_COLUMNS, "starttime", "endtime", "patientweight"]
            inputs = inputs.select(*columns, is_single_dose=is_single_dose)
            self.spill.add("metavision", inputs)

    def read_carevue(self, table: RawTable) -> None:
        """Read INPUTEVENTS_CV."""
        for rows in self._stream(table, "charttime", "storetime"):
            inputs = parse_numbers(rows, "amount", "rate")
            inputs = self.matcher.match(inputs, table.name, "charttime", self.log)
            is_stop = pl.col("stopped").cast(pl.String).str.to_lowercase().is_in(_STOP_WORDS)
            self.spill.add("carevue", inputs.select(*_COLUMNS, "charttime", is_stop=is_stop))

    def _stream(self, table: RawTable, *times: str) -> Iterator[pl.DataFrame]:
        """Frames of the rows whose item is mapped, with ids, ``times`` and units parsed."""
        table_items = load_table_items(table.name)
        row_filter = RowFilter("itemid", table_items["itemid"].unique())
        in_grams = pl.col("convert") == "grams"
        for rows in stream_table(table, self.log, row_filter):
            inputs = parse_times(parse_integers(rows, *_IDS), table.name, self.log, *times)
            inputs = inputs.join(table_items, on="itemid", maintain_order="left")
            amount_unit = pl.when(in_grams).then(pl.lit("g")).otherwise(spell_unit("amountuom"))
            yield inputs.with_columns(amount_unit.alias("amountuom"), spell_unit("rateuom"))
        self.log.unmapped_items(table.name, row_filter.n_other, row_filter.invalid)


def spell_unit(column: str) -> pl.Expr:
    """A unit in the spelling of the catalogue's units: lower case, without blanks and points."""
    text = pl.col(column).cast(pl.String).str.to_lowercase()
    return text.str.replace_all(r"[\s.]", "").alias(column)
