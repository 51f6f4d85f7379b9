"""Read INPUTEVENTS_MV and INPUTEVENTS_CV.

Rows are matched to stays, their units are brought to one spelling, and they are spilled by groups
of stays. They become treatments in ``treatments.py``. Items that are no drugs become events.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

import polars as pl

from flowsheet.cohort.sources.mimic3.antibiotics import GIVEN, list_anti_infectives
from flowsheet.cohort.sources.mimic3.event_reader import EVENT_COLUMNS
from flowsheet.cohort.sources.mimic3.event_values import convert_values
from flowsheet.cohort.sources.mimic3.exclusions import ExclusionLog
from flowsheet.cohort.sources.mimic3.files import RawTable
from flowsheet.cohort.sources.mimic3.item_map import load_items, load_table_items
from flowsheet.cohort.sources.mimic3.stay_matcher import StayMatcher
from flowsheet.cohort.sources.mimic3.table_reader import RowFilter, stream_table
from flowsheet.cohort.spill import Spill

_SINGLE_DOSE_CATEGORIES = ("drug push", "bolus", "non iv meds")
"""MetaVision's order categories of single doses."""
_STOP_WORDS = ("stopped", "d/c'd")
_COLUMNS = ["stay", "code", "storetime", "amount", "amountuom", "rate", "rateuom"]


@dataclass(frozen=True)
class InputReader:
    """Reads the tables with inputs; one method per table."""

    matcher: StayMatcher
    log: ExclusionLog
    spill: Spill
    admissions: pl.DataFrame
    """(icustay_id, hadm_id) of all stays in ICUSTAYS."""
    given: list[pl.DataFrame] = field(default_factory=list)
    """Anti-infectives that were charted as given in an admission; columns ``GIVEN``."""

    def collect_antibiotics(self) -> pl.DataFrame:
        """The anti-infectives of all admissions, in whichever of their stays they were given."""
        return pl.concat([pl.DataFrame(schema=GIVEN), *self.given])

    def read_metavision(self, table: RawTable) -> None:
        """Read INPUTEVENTS_MV."""
        for rows in self._stream(table):
            is_rewritten = pl.col("statusdescription").str.to_lowercase() == "rewritten"
            inputs = self.log.exclude(rows, is_rewritten, "inputevents_mv: rewritten")
            inputs = inputs.with_columns(pl.coalesce("endtime", "starttime"))
            ends_too_early = pl.col("endtime") < pl.col("starttime")
            reason = "inputevents_mv: ends before it starts"
            inputs = self.log.exclude(inputs, ends_too_early, reason)
            category = pl.col("ordercategorydescription").cast(pl.String).str.to_lowercase()
            is_single_dose = category.is_in(_SINGLE_DOSE_CATEGORIES)
            end = pl.when(is_single_dose).then("starttime").otherwise("endtime")
            self._add_antibiotics(inputs, table.name, "starttime", end)
            inputs = self.matcher.match(inputs, table.name, "starttime", self.log)
            inputs = self._add_events(inputs, table.name, "starttime")
            columns = [*_COLUMNS, "starttime", "endtime", "patientweight"]
            inputs = inputs.select(*columns, is_single_dose=is_single_dose)
            self.spill.add("metavision", inputs)

    def read_carevue(self, table: RawTable) -> None:
        """Read INPUTEVENTS_CV."""
        for rows in self._stream(table):
            self._add_antibiotics(rows, table.name, "charttime", pl.col("charttime"))
            inputs = self.matcher.match(rows, table.name, "charttime", self.log)
            inputs = self._add_events(inputs, table.name, "charttime")
            is_stop = pl.col("stopped").cast(pl.String).str.to_lowercase().is_in(_STOP_WORDS)
            self.spill.add("carevue", inputs.select(*_COLUMNS, "charttime", is_stop=is_stop))

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
        known_at = pl.max_horizontal(time, "storetime").alias("known_at")
        others = inputs.filter(~is_drug).with_columns(known_at).rename({time: "time"})
        values = convert_values(others, table, "amount", self.log)
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
        rows = inputs.filter(is_given).join(_load_anti_infectives(), on="code")
        of_stay = self.admissions.rename({"hadm_id": "_hadm_id"})
        rows = rows.join(of_stay, on="icustay_id", how="left", maintain_order="left")
        rows = rows.with_columns(hadm_id=pl.coalesce("_hadm_id", "hadm_id"))
        rows = rows.drop_nulls(["hadm_id", start])
        given = rows.select(
            "hadm_id",
            drug="drug",
            time=start,
            end=end,
            known_at=pl.max_horizontal(start, "storetime"),
            source=pl.lit(table),
        )
        self.given.append(given.cast(pl.Schema(GIVEN)))

    def _stream(self, table: RawTable) -> Iterator[pl.DataFrame]:
        """Frames of the rows whose item is mapped, with their code and the units' spelling."""
        table_items = load_table_items(table.name)
        row_filter = RowFilter("itemid", table_items["itemid"].unique())
        in_grams = pl.col("convert") == "grams"
        for rows in stream_table(table, self.log, row_filter):
            inputs = rows.join(table_items, on="itemid", maintain_order="left")
            amount_unit = pl.when(in_grams).then(pl.lit("g")).otherwise(spell_unit("amountuom"))
            yield inputs.with_columns(amount_unit.alias("amountuom"), spell_unit("rateuom"))


@lru_cache(maxsize=1)
def _load_anti_infectives() -> pl.DataFrame:
    """(code, drug) of the items that are anti-infectives."""
    drugs = load_items().select("code", drug="name")
    return drugs.filter(pl.col("drug").is_in(list_anti_infectives()))


def spell_unit(column: str) -> pl.Expr:
    """A unit in the spelling of the catalogue's units: lower case, without blanks and points."""
    text = pl.col(column).cast(pl.String).str.to_lowercase()
    return text.str.replace_all(r"[\s.]", "").alias(column)
