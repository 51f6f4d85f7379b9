"""MIMIC-III 1.4: the raw tables of the database.

Johnson et al., Scientific Data 3:160035, 2016, doi:10.1038/sdata.2016.35.

The input is a folder of the database's CSV files (plain or gzipped, headers in either case), or the
same tables as Parquet. Each table is read once, as a stream: rows of unmapped items are dropped,
the others are converted, matched to their stay, and spilled by groups of stays. Then each group
becomes a batch with its Sepsis-3 label. docs/mimic3.md describes every rule.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from flowsheet.cohort import catalogue
from flowsheet.cohort.completeness import HOURLY_NEEDS, Needs, needs_of_definition
from flowsheet.cohort.derived import derivable_variables
from flowsheet.cohort.sources.base import SOURCES, Source, StayBatch
from flowsheet.cohort.sources.mimic3.batches import ParsedTables, attach_totals
from flowsheet.cohort.sources.mimic3.cells import CELL_HINTS
from flowsheet.cohort.sources.mimic3.event_reader import EventReader
from flowsheet.cohort.sources.mimic3.exclusions import RULES, ExclusionLog
from flowsheet.cohort.sources.mimic3.files import (
    OPTIONAL_COLUMNS,
    TABLES,
    RawTable,
    digest_tables,
    find_tables,
)
from flowsheet.cohort.sources.mimic3.input_reader import InputReader
from flowsheet.cohort.sources.mimic3.microbiology import read_cultures
from flowsheet.cohort.sources.mimic3.options import Mimic3Options
from flowsheet.cohort.sources.mimic3.prescriptions import read_orders
from flowsheet.cohort.sources.mimic3.stay_matcher import StayMatcher
from flowsheet.cohort.sources.mimic3.stays import Stays, read_stays
from flowsheet.cohort.spill import Spill, spill_folder
from flowsheet.errors import FlowsheetError

__all__ = ["Mimic3", "Mimic3Options"]

_NEEDED_TABLES = {
    "every event": ("chartevents",),
    "every laboratory result": ("labevents",),
    "the urine": ("outputevents",),
    "every infusion": ("inputevents_mv", "inputevents_cv"),
    "every order of antibiotics": ("prescriptions",),
    "every culture": ("microbiologyevents",),
}

_STAY_COLUMNS = (
    *("age", "sex", "height_cm", "weight_kg", "ethnicity", "insurance", "unit", "admission_type"),
    *("hospital_admitted_at", "died_at", "hospital_death"),
)

_BATCH_THREADS = 2
"""Threads that build batches beside the one that checks and writes them; most of the work releases
Python's lock."""


@SOURCES.register("mimic3")
class Mimic3(Source):
    """MIMIC-III's raw tables, a thousand stays at a time."""

    Options: ClassVar[type[Mimic3Options]] = Mimic3Options
    version: ClassVar[int] = 1
    licence: str = (
        "PhysioNet Credentialed Health Data License 1.5.0 (the demo: Open Database License 1.0)"
    )
    stay_columns: ClassVar[tuple[str, ...]] = _STAY_COLUMNS
    rules: ClassVar[tuple[str, ...]] = RULES
    hints: ClassVar[Mapping[str, str]] = CELL_HINTS

    def __init__(self, path: Path | None, options: Any) -> None:
        super().__init__(path, options)
        mapped = catalogue.mimic3_items()
        is_drug = pl.col("kind") == "drug"
        charted_drugs = set(mapped.filter(is_drug)["name"])
        ordered_drugs = set(catalogue.mimic3_prescriptions()["drug"])
        self.drugs = tuple(
            name for name in catalogue.drugs() if name in charted_drugs | ordered_drugs
        )
        charted = set(mapped.filter(~is_drug)["name"])
        available = charted.union(derivable_variables(charted, self.drugs))
        self.variables = tuple(name for name in catalogue.variables() if name in available)

    def needs(self) -> Needs:
        """The tables that decide the label, what its definition needs, and vital signs."""
        needs = needs_of_definition(self.options.sepsis3.definition)
        variables = {**HOURLY_NEEDS.variables, **needs.variables}
        return replace(needs, tables=_NEEDED_TABLES, variables=variables)

    def warnings(self) -> list[str]:
        """Columns of MIMIC-III that the files lack, and that can be done without."""
        return [
            f"{file.path.name} has no column {column.upper()}"
            for table in self._find_tables().values()
            for file in table.files
            for column in OPTIONAL_COLUMNS.get(table.name, ())
            if column not in file.columns
        ]

    def fingerprint(self) -> str:
        """sha256 over the content of the tables that are read."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        return digest_tables(self._find_tables())

    def _precompute_fingerprint(self) -> None:
        with suppress(FlowsheetError):  # fingerprint() raises it again
            _ = self._fingerprint

    def _find_tables(self) -> dict[str, RawTable]:
        assert self.path is not None
        needs_services = bool(self.options.excluded_services)
        names = tuple(name for name in TABLES if name != "services" or needs_services)
        line_bytes = round(self.options.max_line_mb * 1_000_000)
        return find_tables(self.path, names, self.options.time_zone, line_bytes)

    def batches(self) -> Iterator[StayBatch]:
        """Batches of stays in ascending order of their ids."""
        tables = self._find_tables()
        log = ExclusionLog()
        # The files are hashed while they are read anyway.
        threading.Thread(target=self._precompute_fingerprint, daemon=True).start()
        stays = read_stays(tables, self.options, log)
        admissions = stays.admission_times
        with spill_folder() as folder:
            spill = Spill(folder, stays.table.height, self.options.stays_per_batch)
            given = _read_events_and_inputs(tables, stays, self.options, log, spill)
            orders = read_orders(tables["prescriptions"], admissions, log)
            cultures = read_cultures(tables["microbiologyevents"], admissions, log)
            parsed = ParsedTables(stays, orders, cultures, given, spill, self.options)
            spill.finish_adding()
            batches = _build_ahead(parsed.build_batch, range(spill.n_groups))
            yield from attach_totals(batches, log, stays)


def _read_events_and_inputs(
    tables: dict[str, RawTable],
    stays: Stays,
    options: Mimic3Options,
    log: ExclusionLog,
    spill: Spill,
) -> pl.DataFrame:
    """Read the six tables with events and inputs.

    Args:
        tables: the raw tables by name.
        stays: the selected stays.
        options: the options of the source.
        log: receives excluded rows and defects.
        spill: receives the events and inputs.

    Returns:
        The anti-infectives that were charted as given in any stay; columns ``GIVEN``.
    """
    matcher = StayMatcher(stays)
    events = EventReader(matcher, options, log, spill)
    inputs = InputReader(matcher, log, spill, stays.admissions)
    events.read_chartevents(tables["chartevents"])
    events.read_labevents(tables["labevents"])
    events.read_outputevents(tables["outputevents"])
    events.read_procedureevents(tables["procedureevents_mv"])
    inputs.read_carevue(tables["inputevents_cv"])
    inputs.read_metavision(tables["inputevents_mv"])
    return inputs.collect_antibiotics()


def _build_ahead(build: Callable[[int], StayBatch], groups: Iterable[int]) -> Iterator[StayBatch]:
    """Yield the batches of the groups in order, while the next two are being built."""
    pending: deque[Future[StayBatch]] = deque()
    with ThreadPoolExecutor(_BATCH_THREADS) as builders:
        for group in groups:
            pending.append(builders.submit(build, group))
            if len(pending) > _BATCH_THREADS:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
