"""Batches of stays out of the parsed tables."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import polars as pl

from flowsheet.cohort.derived import add_derived
from flowsheet.cohort.divided import ParsedGroups
from flowsheet.cohort.engine.antibiotics import (
    select_given_antibiotics,
    select_ordered_antibiotics,
)
from flowsheet.cohort.engine.cultures import select_cultures
from flowsheet.cohort.engine.database import Database
from flowsheet.cohort.engine.events import build_events
from flowsheet.cohort.engine.exclusions import ExclusionLog, IdTexts, add_counts
from flowsheet.cohort.engine.locations import STAYS_PER_ADMISSION
from flowsheet.cohort.engine.options import DatabaseOptions
from flowsheet.cohort.engine.orders import build_ordered_treatments
from flowsheet.cohort.engine.treatments import TreatmentBuilder, sort_and_dedupe
from flowsheet.cohort.rules import TOLERANCE_HOURS
from flowsheet.cohort.schema import STAYS, TREATMENTS, empty_table, to_contract
from flowsheet.cohort.sepsis3 import ANTIBIOTICS, LabelInputs, label
from flowsheet.cohort.sepsis3.definitions import first_onsets
from flowsheet.cohort.sources.base import StayBatch
from flowsheet.cohort.spill import Spill
from flowsheet.state.json_files import read_json, write_json

_FRAMES = ("stays", "orders", "cultures", "given_antibiotics", "id_texts", "defects")
_TOTALS = "totals.json"
_PROCESS_BYTES = 400_000_000
"""Of a process that builds a group without rows: 0.34 GB measured, Prefect included."""
_BYTES_PER_ROW = 350
"""Of its rows: with 2.0 million a process took 0.70 to 1.01 GB, the most where it keeps freed
memory."""
COMPARE_ALL = 2_000
"""Definitions of sepsis are compared on all stays of cohorts up to this size ..."""
COMPARE_EVERY = 16
"""... and on one of this many stays of larger ones: that takes a third of the label's time."""


@dataclass(frozen=True)
class Totals:
    """What the pass over all tables has counted; it belongs to the first batch."""

    rows_read: dict[str, int]
    attrition: dict[str, int]
    exclusions: dict[str, int]


@dataclass(frozen=True)
class ParsedTables(ParsedGroups):
    """All that one pass over each table has read."""

    database: Database
    options: DatabaseOptions
    spill: Spill
    """Events and inputs by groups of stays."""
    stays: pl.DataFrame
    """As in :class:`Stays`: the selected stays."""
    orders: pl.DataFrame
    """Orders of drugs by hospital admission."""
    cultures: pl.DataFrame
    """Cultures by hospital admission."""
    given_antibiotics: pl.DataFrame
    """Anti-infectives that were charted as given, by hospital admission."""
    id_texts: pl.DataFrame
    """(field, number, text): ids that are texts."""
    defects: pl.DataFrame
    """As in :class:`StayBatch`, of all tables."""
    totals: Totals

    @property
    def folder(self) -> Path:
        """The folder of the spill."""
        return self.spill.folder

    @property
    def n_groups(self) -> int:
        """At least 1."""
        return max(1, self.spill.n_groups)

    def save(self) -> None:
        """Write all but the database and the options to the folder of the spill."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.spill.save()
        for name in _FRAMES:
            getattr(self, name).write_ipc(self.folder / f"{name}.arrow")
        pairs = {name: list(counts.items()) for name, counts in vars(self.totals).items()}
        write_json(self.folder / _TOTALS, pairs)  # which would sort the keys of a dictionary

    @classmethod
    def load(cls, folder: Path, database: Database, options: DatabaseOptions) -> Self:
        """What :meth:`save` wrote; several processes share the memory of its frames.

        Args:
            folder: of the spill.
            database: of which the tables are.
            options: of the source.
        """
        frames = {name: pl.read_ipc(folder / f"{name}.arrow") for name in _FRAMES}
        totals = Totals(**{name: dict(n) for name, n in read_json(folder / _TOTALS).items()})
        spill = Spill.load(folder, frames["stays"].height, options.stays_per_batch)
        return cls(database=database, options=options, spill=spill, totals=totals, **frames)

    def estimate_memory(self) -> int:
        """Bytes of a process that builds the largest group."""
        return _PROCESS_BYTES + _BYTES_PER_ROW * max(self.spill.rows.values(), default=0)

    def last_stay_before(self, group: int) -> int | None:
        """The greatest id of a stay of earlier groups."""
        before = self.stays["stay_id"].head(group * self.spill.stays_per_group)
        return before[-1] if len(before) else None

    def build_batch(self, group: int) -> StayBatch:
        """The batch of a group of stays; the first one has the defects and the totals."""
        is_empty = self.stays.is_empty()
        batch = StayBatch(empty_table("stays")) if is_empty else self._build_batch(group)
        totals = self.totals
        if group:
            return replace(batch, attrition=dict.fromkeys(totals.attrition, 0))
        return replace(
            batch,
            defects=self.defects,
            rows_read=totals.rows_read,
            attrition=totals.attrition,
            exclusions=add_counts(totals.exclusions, batch.exclusions),
        )

    def _build_batch(self, group: int) -> StayBatch:
        """The batch of the rows of a group, with its Sepsis-3 label."""
        size = self.spill.stays_per_group
        selected = self.stays.slice(group * size, size)
        log = ExclusionLog()
        charted = self.spill.pop("events", group)
        stay_ids = self.stays["stay_id"]
        events = build_events(charted, stay_ids, self.database.items, self.options, log)
        given = self._build_given(group, selected, events, log)
        ordered = build_ordered_treatments(self.orders, selected, self.database, log)
        treatments = pl.concat([given.select(list(TREATMENTS)), ordered])
        treatments = sort_and_dedupe(treatments, selected["stay_id"])
        stays = _add_height_and_weight(selected.select(list(STAYS)), events, self.options)
        stays = _add_comfort_measures(stays, events)
        antibiotics = self._collect_antibiotics(selected)
        cultures = select_cultures(self.cultures, selected)
        inputs = LabelInputs(stays, events, treatments, antibiotics, cultures)
        batch = StayBatch(stays, add_derived(stays, events, treatments), treatments)
        batch = replace(
            batch,
            exclusions=add_counts(log.counts, {}),
            stay_names=self._name_stays(selected),
        )
        return self._add_sepsis(batch, inputs)

    def _name_stays(self, stays: pl.DataFrame) -> dict[int, str]:
        """The stays whose id, or whose admission's, is a text: the text, and a number."""
        texts = {
            field: dict(self.id_texts.filter(field=field).select("number", "text").iter_rows())
            for field in ("stay_id", "hadm_id")
        }
        names = {}
        for stay, admission in stays.select("stay_id", "hadm_id").iter_rows():
            if name := texts["stay_id"].get(stay):
                names[stay] = name
            elif name := texts["hadm_id"].get(admission):
                names[stay] = f"{name} #{stay % STAYS_PER_ADMISSION}"
        return names

    def _add_sepsis(self, batch: StayBatch, inputs: LabelInputs) -> StayBatch:
        """The batch with the episodes of sepsis, where it is looked for."""
        options = self.options.sepsis3
        if options is None:
            return batch
        labels = label(inputs, options)
        compared = inputs.of_stays(self._compared_stays)
        return replace(
            batch,
            episodes=to_contract("episodes", labels.episodes),
            first_onsets=first_onsets(compared, options, labels.episodes),
            source_counts=labels.counts,
        )

    @property
    def _compared_stays(self) -> pl.Series:
        """The stays on which definitions of sepsis are compared."""
        stay_ids = self.stays["stay_id"]
        step = 1 if len(stay_ids) <= COMPARE_ALL else COMPARE_EVERY
        return stay_ids.gather_every(step)

    def _build_given(
        self, group: int, stays: pl.DataFrame, events: pl.DataFrame, log: ExclusionLog
    ) -> pl.DataFrame:
        """Treatments that were charted as given.

        Args:
            group: number of the group of stays.
            stays: the stays of the group.
            events: their events, for the weight.
            log: receives the excluded rows.
        """
        builder = TreatmentBuilder(self.database.items, self.options, log)
        weights = events.filter(pl.col("variable") == "weight")
        parts = [empty_table("treatments")]
        for table in self.database.of_role("infusions"):
            rows = self._pop_with_stay_ids(f"infusions {table}", group)
            parts.append(builder.build_infusions(rows, table))
        for table in self.database.of_role("charted_rates"):
            rows = self._pop_with_stay_ids(f"charted_rates {table}", group)
            parts.append(builder.build_charted_rates(rows, weights, table))
        return _clip_to_stays(pl.concat(parts), stays)

    def _pop_with_stay_ids(self, kind: str, group: int) -> pl.DataFrame:
        rows = self.spill.pop(kind, group)
        if rows.is_empty():
            return rows
        return rows.with_columns(stay_id=self.stays["stay_id"][rows["stay"]])

    def _collect_antibiotics(self, stays: pl.DataFrame) -> pl.DataFrame:
        """Antibiotics that were ordered or given in the stays' hospital admissions."""
        ordered = select_ordered_antibiotics(self.orders, stays)
        given = select_given_antibiotics(self.given_antibiotics, stays)
        return pl.concat([ordered, given]).sort(list(ANTIBIOTICS))


def list_id_texts(id_texts: IdTexts) -> pl.DataFrame:
    """The columns (field, number, text) of ids that are texts."""
    rows = [(field, number, text) for (field, number), text in id_texts.items()]
    schema = {"field": pl.String(), "number": pl.Int64(), "text": pl.String()}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _clip_to_stays(treatments: pl.DataFrame, stays: pl.DataFrame) -> pl.DataFrame:
    """Clip treatments to their stay and the contract's tolerance around it."""
    tolerance = pl.duration(hours=TOLERANCE_HOURS)
    bounds = stays.select("stay_id", "admitted_at", "discharged_at")
    rows = treatments.join(bounds, on="stay_id").with_columns(
        pl.max_horizontal("start", pl.col("admitted_at") - tolerance).alias("start"),
        pl.min_horizontal("end", pl.col("discharged_at") + tolerance).alias("end"),
    )
    return rows.with_columns(
        pl.max_horizontal("known_at", "start"), pl.max_horizontal("start", "end").alias("end")
    )


def _add_height_and_weight(
    stays: pl.DataFrame, events: pl.DataFrame, options: DatabaseOptions
) -> pl.DataFrame:
    """Fill the stays' columns with the last values known by ``statics_hours`` after admission."""
    latest = pl.col("admitted_at") + pl.duration(seconds=round(options.statics_hours * 3600))
    for column, variable in (("height_cm", "height"), ("weight_kg", "weight")):
        values = events.filter(pl.col("variable") == variable)
        values = values.join(stays.select("stay_id", "admitted_at"), on="stay_id")
        values = values.filter(pl.col("known_at") <= latest).sort("stay_id", "time", "known_at")
        last = values.group_by("stay_id", maintain_order=True).agg(
            pl.col("value").last().alias(column)
        )
        stays = stays.drop(column).join(last, on="stay_id", how="left", maintain_order="left")
    return stays.select(list(STAYS))


def _add_comfort_measures(stays: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """Fill ``comfort_measures_at``: when the record of the stay first said so."""
    limited = events.filter(variable="comfort_measures", value=1.0)
    first = limited.group_by("stay_id").agg(pl.col("known_at").min().alias("_first"))
    joined = stays.join(first, on="stay_id", how="left", maintain_order="left")
    is_inside = pl.col("_first") <= pl.col("discharged_at")
    at = pl.when(is_inside).then(pl.max_horizontal("_first", "admitted_at"))
    return joined.with_columns(comfort_measures_at=at).select(list(STAYS))
