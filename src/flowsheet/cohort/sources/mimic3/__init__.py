"""MIMIC-III 1.4 (Johnson et al., Scientific Data 3:160035, 2016, doi:10.1038/sdata.2016.35): the
raw tables.

A folder of the database's CSV files, plain or gzipped, headers in either case, or the same as
Parquet. Each table is read once, in a stream: rows that matter are filtered as text, converted,
placed in their stay, and set down by groups of stays; then group by group becomes a batch with its
Sepsis-3 label. docs/mimic3.md tells every rule.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from flowsheet.cohort import catalogue
from flowsheet.cohort.rules import TOLERANCE_HOURS
from flowsheet.cohort.schema import EPISODES, STAYS, TREATMENTS, empty_table
from flowsheet.cohort.sepsis3 import ANTIBIOTICS, label
from flowsheet.cohort.sources.base import SOURCES, Source, StayBatch
from flowsheet.cohort.sources.mimic3 import events, files, hospital, inputs
from flowsheet.cohort.sources.mimic3.exclusions import RULES, Tally
from flowsheet.cohort.sources.mimic3.options import Mimic3Options
from flowsheet.cohort.sources.mimic3.stays import Placing, Stays, read_stays
from flowsheet.cohort.spill import Spill, spill_folder
from flowsheet.errors import FlowsheetError

__all__ = ["Mimic3", "Mimic3Options"]

_MAKERS = 2
"""Threads that make batches beside the one that checks and writes them; the work leaves Python most of the time."""


@SOURCES.register("mimic3")
class Mimic3(Source):
    """MIMIC-III's raw tables, a thousand stays at a time."""

    Options: ClassVar[type[Mimic3Options]] = Mimic3Options
    version: ClassVar[int] = 1
    licence: str = (
        "PhysioNet Credentialed Health Data License 1.5.0 (the demo: Open Database License 1.0)"
    )
    rules: ClassVar[tuple[str, ...]] = RULES

    def __init__(self, path: Path | None, options: Any) -> None:
        super().__init__(path, options)
        mapped = catalogue.mimic3_items()
        given = set(mapped.filter(pl.col("kind") == "drug")["name"]) | set(
            catalogue.mimic3_prescriptions()["drug"]
        )
        measured = set(mapped.filter(pl.col("kind") != "drug")["name"])
        self.variables = tuple(name for name in catalogue.variables() if name in measured)
        self.drugs = tuple(name for name in catalogue.drugs() if name in given)

    def fingerprint(self) -> str:
        """sha256 over the content of the tables that are read."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        return files.digest(self._tables())

    def _hash(self) -> None:
        """Have the fingerprint by the time it is wanted, while the files are read anyway."""
        with suppress(FlowsheetError):  # whoever wants it is told
            _ = self._fingerprint

    def _tables(self) -> dict[str, files.RawTable]:
        assert self.path is not None
        names = tuple(
            name for name in files.TABLES if name != "services" or self.options.excluded_services
        )
        return files.find(self.path, names)

    def batches(self) -> Iterator[StayBatch]:
        """Batches of stays in ascending order of their ids."""
        tables, tally = self._tables(), Tally()
        threading.Thread(target=self._hash, daemon=True).start()
        stays = read_stays(tables, self.options, tally)
        with spill_folder() as folder:
            spill = Spill(folder, stays.table.height, self.options.stays_per_batch)
            _read_events(tables, Placing(stays), self.options, tally, spill)
            orders = hospital.read_orders(
                tables["prescriptions"], stays.table["hadm_id"].unique(), tally
            )
            taken = hospital.read_cultures(
                tables["microbiologyevents"], stays.table["hadm_id"].unique(), tally
            )
            gathered = Gathered(stays, orders, taken, spill, self.options)
            spill.finish_adding()
            groups = range(spill.n_groups)
            yield from _first_told(_ahead(gathered.batch, groups), tally, stays)


def _read_events(
    tables: dict[str, files.RawTable],
    placing: Placing,
    options: Mimic3Options,
    tally: Tally,
    spill: Spill,
) -> None:
    charted = events.Reader(placing, options, tally, spill)
    given = inputs.Reader(placing, options, tally, spill)
    passes: dict[str, Callable[[files.RawTable], None]] = {
        "chartevents": charted.chart,
        "labevents": charted.labs,
        "outputevents": charted.outputs,
        "procedureevents_mv": charted.procedures,
        "inputevents_cv": given.carevue,
        "inputevents_mv": given.metavision,
    }
    for name, read in passes.items():
        read(tables[name])


def _first_told(batches: Iterator[StayBatch], tally: Tally, stays: Stays) -> Iterator[StayBatch]:
    """What was met on the way through the tables goes with the first batch; there is one even without stays."""
    first = next(batches, StayBatch(empty_table("stays")))
    yield StayBatch(
        *(first.stays, first.events, first.treatments, first.episodes),
        defects=tally.defects(),
        attrition=stays.attrition,
        exclusions=_added(tally.left_out, first.exclusions),
        source_counts=first.source_counts,
    )
    for batch in batches:
        yield StayBatch(
            *(batch.stays, batch.events, batch.treatments, batch.episodes, batch.defects),
            attrition=dict.fromkeys(stays.attrition, 0),
            exclusions=batch.exclusions,
            source_counts=batch.source_counts,
        )


def _added(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    summed = {
        reason: one.get(reason, 0) + other.get(reason, 0) for reason in sorted({*one, *other})
    }
    return {reason: n for reason, n in summed.items() if n}


def _ahead(make: Callable[[int], StayBatch], groups: Iterable[int]) -> Iterator[StayBatch]:
    """The batches of the groups, in order; the next two are being made while one is used."""
    coming: deque[Future[StayBatch]] = deque()
    with ThreadPoolExecutor(_MAKERS) as makers:
        for group in groups:
            coming.append(makers.submit(make, group))
            if len(coming) > _MAKERS:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()


@dataclass(frozen=True)
class Gathered:
    """All that one pass over each table has gathered."""

    stays: Stays
    orders: pl.DataFrame
    taken: pl.DataFrame
    spill: Spill
    options: Mimic3Options

    def batch(self, group: int) -> StayBatch:
        """What was set down of a group of stays becomes a batch."""
        mine = self.stays.table.slice(
            group * self.spill.stays_per_group, self.spill.stays_per_group
        )
        charted = self.spill.pop("events", group)
        metavision, carevue = (
            self._named(self.spill.pop(kind, group)) for kind in ("metavision", "carevue")
        )
        options, tally = self.options, Tally()
        measured = events.events(charted, self.stays.table["stay_id"], options, tally)
        weights = measured.filter(pl.col("variable") == "weight")
        given = _inside(inputs.treatments(metavision, carevue, weights, options, tally), mine)
        ordered = hospital.ordered_treatments(self.orders, mine, tally)
        exposures = inputs.once(
            pl.concat([given.select(list(TREATMENTS)), ordered]), mine["stay_id"]
        )
        charted_as_given = [
            _given(given, mine, table) for table in ("inputevents_mv", "inputevents_cv")
        ]
        antibiotics = pl.concat(
            [hospital.ordered_antibiotics(self.orders, mine), *charted_as_given]
        )
        stays = _with_statics(mine.select(list(STAYS)), measured, options)
        cultures = hospital.cultures(self.taken, mine)
        labelled = label(
            stays,
            measured,
            exposures,
            antibiotics.sort(list(ANTIBIOTICS)),
            cultures,
            options.sepsis3,
        )
        episodes = labelled.episodes.select(list(EPISODES)).cast(pl.Schema(EPISODES))
        left_out = _added(tally.left_out, {})
        return StayBatch(
            stays, measured, exposures, episodes, exclusions=left_out, source_counts=labelled.counts
        )

    def _named(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Rows of numbered stays with the ids of these."""
        return (
            rows.with_columns(stay_id=self.stays.table["stay_id"][rows["stay"]])
            if rows.height
            else rows
        )


def _given(given: pl.DataFrame, stays: pl.DataFrame, table: str) -> pl.DataFrame:
    of_table = events.items().filter(pl.col("table") == table).select("code")
    return hospital.given_antibiotics(given.join(of_table, on="code", how="semi"), stays, table)


def _inside(rows: pl.DataFrame, stays: pl.DataFrame) -> pl.DataFrame:
    """Treatments clipped to the contract's tolerance around their stay."""
    edge = pl.duration(hours=TOLERANCE_HOURS)
    rows = rows.join(stays.select("stay_id", "admitted_at", "discharged_at"), on="stay_id")
    first, last = pl.col("admitted_at") - edge, pl.col("discharged_at") + edge
    clipped = rows.with_columns(
        pl.max_horizontal("start", first).alias("start"),
        pl.min_horizontal("end", last).alias("end"),
    )
    return clipped.with_columns(
        pl.max_horizontal("known_at", "start"), pl.max_horizontal("start", "end").alias("end")
    )


def _with_statics(
    stays: pl.DataFrame, measured: pl.DataFrame, options: Mimic3Options
) -> pl.DataFrame:
    """Height and weight, as far as they were known soon enough."""
    for column, variable in (("height_cm", "height"), ("weight_kg", "weight")):
        soon = measured.filter(pl.col("variable") == variable).join(
            stays.select("stay_id", "admitted_at"), on="stay_id"
        )
        limit = pl.col("admitted_at") + pl.duration(seconds=round(options.statics_hours * 3600))
        soon = soon.filter(pl.col("known_at") <= limit).sort("stay_id", "time", "known_at")
        last = soon.group_by("stay_id", maintain_order=True).agg(
            pl.col("value").last().alias(column)
        )
        stays = stays.drop(column).join(last, on="stay_id", how="left", maintain_order="left")
    return stays.select(list(STAYS))
