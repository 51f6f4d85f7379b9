"""A source that reads the raw tables of any database that a YAML describes.

The input is a folder of CSV files (plain or gzipped, headers in either case), or the same tables as
Parquet. Each table is read once, as a stream: rows of unmapped items are dropped, the others are
converted, matched to their stay, and spilled by groups of stays. Then each group becomes a batch
with its Sepsis-3 label. docs/mimic3.md describes every rule.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from flowsheet.cohort import catalogue
from flowsheet.cohort.completeness import HOURLY_NEEDS, Needs, needs_of_definition
from flowsheet.cohort.derived import derivable_variables
from flowsheet.cohort.divided import DividedSource
from flowsheet.cohort.engine.administrations import read_administrations
from flowsheet.cohort.engine.batches import ParsedTables, Totals, list_id_texts
from flowsheet.cohort.engine.cells import CELL_HINTS
from flowsheet.cohort.engine.cultures import read_cultures
from flowsheet.cohort.engine.database import SHIPPED, Database, load_database, read_database
from flowsheet.cohort.engine.event_reader import EventReader
from flowsheet.cohort.engine.exclusions import RULES, ExclusionLog
from flowsheet.cohort.engine.files import RawTable, digest_tables, find_tables
from flowsheet.cohort.engine.input_reader import InputReader
from flowsheet.cohort.engine.options import DatabaseOptions, OptionsWithoutSepsis
from flowsheet.cohort.engine.orders import add_entry_times, read_orders
from flowsheet.cohort.engine.stay_matcher import StayMatcher
from flowsheet.cohort.engine.stays import Stays, read_stays
from flowsheet.cohort.sources.base import SourceSize
from flowsheet.cohort.spill import Spill
from flowsheet.errors import FlowsheetError, UsageError
from flowsheet.state.hashing import digest, file_digest

_STAY_COLUMNS = (
    *("age", "sex", "height_cm", "weight_kg", "ethnicity", "insurance", "unit", "admission_type"),
    *("hospital_admitted_at", "died_at", "hospital_death"),
)


class DatabaseSource(DividedSource):
    """A database's raw tables, a thousand stays at a time."""

    Options: ClassVar[type[DatabaseOptions]] = DatabaseOptions
    version: ClassVar[int] = 1
    database_file: ClassVar[Path]
    """The database's YAML."""
    stay_columns: ClassVar[tuple[str, ...]] = _STAY_COLUMNS
    rules: ClassVar[tuple[str, ...]] = RULES
    hints: ClassVar[Mapping[str, str]] = CELL_HINTS

    def __init__(self, path: Path | None, options: Any) -> None:
        super().__init__(path, options)
        self.database = self.load()
        self.licence = self.database.spec.licence
        self.responses = ("sepsis",) if options.sepsis3 else ()
        mapped = self.database.items.items
        is_drug = pl.col("kind") == "drug"
        charted_drugs = set(mapped.filter(is_drug)["name"])
        ordered_drugs: set[str] = set()
        if self.database.table_of("orders"):
            ordered_drugs = set(catalogue.mimic3_prescriptions()["drug"])
        self.drugs = tuple(
            name for name in catalogue.drugs() if name in charted_drugs | ordered_drugs
        )
        charted = set(mapped.filter(~is_drug)["name"])
        available = charted.union(derivable_variables(charted, self.drugs))
        self.variables = tuple(name for name in catalogue.variables() if name in available)

    @classmethod
    def load(cls) -> Database:
        """The database, read from its YAML."""
        shipped = cls.database_file.parent == SHIPPED
        name = cls.database_file.stem
        return load_database(name) if shipped else read_database(cls.database_file)

    @classmethod
    def choose_options(cls) -> type[DatabaseOptions]:
        """The options of a database of others: sepsis is looked for where it has cultures."""
        try:
            has_cultures = cls.load().table_of("cultures") is not None
        except UsageError:  # raised again, with its reason, when the records are read
            has_cultures = True
        return DatabaseOptions if has_cultures else OptionsWithoutSepsis

    def needs(self) -> Needs:
        """The tables that decide the label, what its definition needs, and vital signs."""
        tables = self.database.needs()
        if self.options.sepsis3 is None:
            cultures = self.database.table_of("cultures")
            others = {purpose: names for purpose, names in tables.items() if names != (cultures,)}
            return replace(HOURLY_NEEDS, tables=others)
        needs = needs_of_definition(self.options.sepsis3.definition)
        variables = {**HOURLY_NEEDS.variables, **needs.variables}
        return replace(needs, tables=tables, variables=variables)

    def warnings(self) -> list[str]:
        """Tables and columns of the database that are missing, and can be done without."""
        tables = self._find_tables()
        optional = [name for name, table in self.database.tables.items() if table.optional]
        missing = [name.upper() for name in optional if name not in tables]
        without = [f"the folder has no table {name}" for name in missing]
        zone = self.database.spec.time_zone
        if zone and self.options.time_zone is None:
            advice = "set cohort.options.time_zone to the hospital's for its hours of the day"
            without.append(f"the times of the extract are in {zone}: {advice}")
        return without + [
            f"{file.path.name} has no column {table.spec.names[field].upper()}"
            for table in tables.values()
            for file in table.files
            for field in table.spec.optional_fields
            if field not in file.columns
        ]

    def input_files(self) -> list[Path]:
        """The files of the tables that are read."""
        return [file.path for table in self._find_tables().values() for file in table.files]

    def estimate_size(self) -> SourceSize | None:
        """By the tables of stays; None where they cannot be read: the ingest says why."""
        try:
            stays = read_stays(self.database, self._find_tables(), self.options, self._make_log())
        except FlowsheetError:
            return None
        length = stays.table["discharged_at"] - stays.table["admitted_at"]
        return SourceSize(stays.table.height, float(length.dt.total_seconds().sum()) / 3600)

    def fingerprint(self) -> str:
        """sha256 over the content of the tables that are read."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        tables = digest_tables(self._find_tables())
        own = self.own_files()
        return digest([tables, *map(file_digest, own)]) if own else tables

    def _precompute_fingerprint(self) -> None:
        with suppress(FlowsheetError):  # fingerprint() raises it again
            _ = self._fingerprint

    def _make_log(self) -> ExclusionLog:
        return ExclusionLog({name: table.names for name, table in self.database.tables.items()})

    def _find_tables(self) -> dict[str, RawTable]:
        assert self.path is not None
        needs_services = bool(self.options.excluded_services)
        names = tuple(
            name
            for name, table in self.database.tables.items()
            if table.role != "services" or needs_services
        )
        line_bytes = round(self.options.max_line_mb * 1_000_000)
        return find_tables(self.database, self.path, names, self.options.time_zone, line_bytes)

    @property
    def stays_per_group(self) -> int:
        """The option ``stays_per_batch``."""
        number: int = self.options.stays_per_batch
        return number

    def parse(self, folder: Path) -> ParsedTables:
        """Read each table once; the rows wait in groups of stays in ascending order of their ids.

        Args:
            folder: of the spill.
        """
        tables = self._find_tables()
        log = self._make_log()
        # The files are hashed while they are read anyway.
        threading.Thread(target=self._precompute_fingerprint, daemon=True).start()
        stays = read_stays(self.database, tables, self.options, log)
        spill = Spill(folder, stays.table.height, self.stays_per_group)
        return self._parse_tables(tables, stays, log, spill)

    def load_groups(self, folder: Path) -> ParsedTables:
        """What :meth:`ParsedTables.save` wrote."""
        return ParsedTables.load(folder, self.database, self.options)

    def own_files(self) -> list[Path]:
        """The YAML and the files of items of a database of others."""
        return self.database.own_files()

    def _parse_tables(
        self, tables: dict[str, RawTable], stays: Stays, log: ExclusionLog, spill: Spill
    ) -> ParsedTables:
        """Read the tables with events, inputs, orders and cultures.

        Args:
            tables: the raw tables by name.
            stays: the selected stays.
            log: receives excluded rows and defects.
            spill: receives the events and inputs.
        """
        items = self.database.items
        stay_column = self.database.tables[self.database.stay_table].names.get("stay_id")
        matcher = StayMatcher(stays, stay_column)
        events = EventReader(matcher, items, self.options, log, spill)
        inputs = InputReader(matcher, items, log, spill, stays.admissions)
        readers = {
            "events": events.read_events,
            "procedures": events.read_procedures,
            "charted_rates": inputs.read_charted_rates,
            "infusions": inputs.read_infusions,
        }
        for table in tables.values():
            if table.spec.role in readers:
                readers[table.spec.role](table)
        admissions = stays.admission_times
        orders = read_orders(self._of_role("orders", tables), admissions, log)
        cultures = read_cultures(self._of_role("cultures", tables), admissions, log)
        orders = add_entry_times(orders, self._of_role("order_entries", tables), log)
        doses = self._of_role("administrations", tables)
        given = read_administrations(doses, admissions, orders, log)
        given = pl.concat([inputs.collect_antibiotics(), given])
        spill.finish_adding()
        return ParsedTables(
            database=self.database,
            options=self.options,
            spill=spill,
            stays=stays.table,
            orders=orders,
            cultures=cultures,
            given_antibiotics=given,
            id_texts=list_id_texts(log.id_texts),
            defects=log.defects(),
            totals=Totals(dict(log.rows_read), stays.attrition, dict(log.counts)),
        )

    def _of_role(self, role: str, tables: dict[str, RawTable]) -> RawTable | None:
        return tables.get(self.database.table_of(role) or "")
