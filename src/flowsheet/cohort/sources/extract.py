"""The contract's tables, written by another program: a folder with up to four Parquet files.

A manifest is optional. Columns become those of the contract without loss, or are refused
(``cohort.lossless``).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from flowsheet.cohort import catalogue
from flowsheet.cohort.completeness import Needs, needs_of_tables
from flowsheet.cohort.extract import (
    REQUIRED_TABLES,
    Manifest,
    find_extract_files,
    read_manifest,
)
from flowsheet.cohort.lossless import conform
from flowsheet.cohort.parquet import read_verified, report_unreadable
from flowsheet.cohort.schema import LABEL, TABLES, empty_table
from flowsheet.cohort.sources.base import SOURCES, Source, SourceSize, StayBatch
from flowsheet.cohort.time_zones import TimeZone
from flowsheet.config import FrozenModel, Name
from flowsheet.errors import CheckFailed
from flowsheet.state.hashing import digest, file_digest

_STAYS_PER_BATCH = 5_000


class ExtractOptions(FrozenModel):
    """How the tables are read."""

    time_zone: TimeZone = None
    """The zone, such as Europe/Berlin, to whose local time zoned times are converted. Without it
    they are refused."""
    response: Name = LABEL
    """What episodes without a column ``response`` are of: sepsis, death, aki, ..."""


@SOURCES.register("extract")
class ExtractFolder(Source):
    """The tables of an extract in a folder; treatments and episodes may be missing."""

    Options: ClassVar[type[FrozenModel]] = ExtractOptions
    reads_extracts: ClassVar[bool] = True
    licence: str = "as stated by the owner of the tables"

    def __init__(self, path: Path | None, options: Any) -> None:
        super().__init__(path, options)
        assert path is not None
        self._folder = path
        self._files = find_extract_files(path)
        self._unknown_columns: dict[str, int] = {}
        self._warnings: dict[str, None] = {}
        self._manifest: Manifest | None = None
        if (self._folder / "manifest.json").is_file():
            manifest = self._manifest = read_manifest(self._folder)
            self.variables = manifest.variables
            self.drugs = manifest.drugs
            self.responses = manifest.responses
            self.licence = manifest.source.licence
        else:
            self.variables = self._find_names("events", "variable", catalogue.variables())
            self.drugs = self._find_names("treatments", "drug", catalogue.drugs())
            self.responses = self._find_responses()

    def needs(self) -> Needs:
        """A row in each table that is there, and vital signs."""
        entries = {} if self._manifest is None else self._manifest.tables
        declared_empty = {table for table, entry in entries.items() if not entry.rows}
        there = {table for table, files in self._files.items() if files} | {*REQUIRED_TABLES}
        return needs_of_tables(table for table in TABLES if table in there - declared_empty)

    def warnings(self) -> list[str]:
        """Columns that are not known, and of tables without a manifest those without a value."""
        return list(self._warnings)

    def fingerprint(self) -> str:
        """sha256 of the sha256 of each file."""
        digests = {table: [file_digest(f) for f in files] for table, files in self._files.items()}
        return digest({table: found for table, found in digests.items() if found})

    def input_files(self) -> list[Path]:
        """The files of the tables."""
        return [file for files in self._files.values() for file in files]

    def estimate_bytes(self) -> int:
        """As many as the tables have."""
        return sum(file.stat().st_size for file in self.input_files())

    def estimate_size(self) -> SourceSize | None:
        """What the manifest counted, if there is one."""
        counts = {} if self._manifest is None else self._manifest.counts
        if not {"stays", "hours"} <= counts.keys():
            return None
        return SourceSize(counts["stays"], counts["hours"])

    def batches(self) -> Iterator[StayBatch]:
        """Batches of some thousand stays.

        They include the rows of stays that are missing in the table of stays, so that the checks
        can report them.
        """
        stays = self._read("stays").sort("stay_id", maintain_order=True)
        events = self._read("events")
        treatments = self._read("treatments")
        episodes = self._read("episodes")
        slices = list(stays.iter_slices(_STAYS_PER_BATCH))
        previous_last: Any = None
        for i, batch_stays in enumerate(slices):
            last = None if i == len(slices) - 1 else batch_stays["stay_id"].max()
            is_in_batch = _is_between(previous_last, last)
            yield StayBatch(
                stays=batch_stays,
                events=events.filter(is_in_batch),
                treatments=treatments.filter(is_in_batch),
                episodes=episodes.filter(is_in_batch),
                attrition={"in the tables": batch_stays.height},
                exclusions=self._unknown_columns if previous_last is None else {},
            )
            previous_last = last

    def _read(self, table: str) -> pl.DataFrame:
        """The table with the columns of the contract; missing optional columns are null.

        Raises:
            CheckFailed: the file is missing or unreadable, or a column is missing or cannot become
            one of the contract without loss.
        """
        files = self._files[table]
        if not files and table in REQUIRED_TABLES:
            where = str(self._folder / f"{table}.parquet")
            what = f"the folder lacks the table {table!r}"
            raise CheckFailed(what, where=where, todo="add that file")
        parts = [self._read_file(table, file) for file in files]
        return pl.concat([empty_table(table), *parts])

    def _read_file(self, table: str, file: Path) -> pl.DataFrame:
        with report_unreadable(file, f"the table {table!r}", "check it with flowsheet validate"):
            frame = read_verified(file)
        conformed = conform(table, frame, self.options.time_zone)
        if conformed.problems:
            raise CheckFailed(
                f"the table {table!r} cannot be read without loss: "
                + "; ".join(map(str, conformed.problems)),
                where=str(file),
                todo="write the columns with the types of docs/bring-your-own.md; a time zone is "
                "declared with cohort.options.time_zone",
            )
        for column, n in conformed.unknown_columns.items():
            self._unknown_columns[f"{file.name}: the column {column!r} is not known"] = n
            self._warnings[f"{file.name}: the column {column!r} is not known and not read"] = None
        if self._manifest is None and frame.height:
            filled = {name for name in frame.columns if frame[name].count()}
            names = ", ".join(name for name in TABLES[table] if name not in filled)
            if names:
                self._warnings[f"{file.name}: no row has a value of {names}"] = None
        if table == "episodes" and "response" not in frame.columns:
            return conformed.rows.with_columns(response=pl.lit(self.options.response))
        return conformed.rows

    def _find_responses(self) -> tuple[str, ...]:
        """The responses in the table; of a table without rows or names, that of the options."""
        if not self._files["episodes"]:
            return ()
        named = self._read("episodes")["response"].drop_nulls().unique().sort()
        return tuple(named) or (self.options.response,)

    def _find_names(self, table: str, column: str, known: dict[str, Any]) -> tuple[str, ...]:
        """The variables or drugs in the table, in the order of the catalogue."""
        present = set(self._read(table)[column].unique().to_list())
        return tuple(name for name in known if name in present)


def _is_between(previous_last: Any, last: Any) -> pl.Expr:
    """Rows with previous_last < stay_id <= last; null is no limit.

    Rows without a stay_id belong to the first batch.
    """
    stay = pl.col("stay_id")
    is_first = previous_last is None
    is_after = pl.lit(True) if is_first else (stay > previous_last).fill_null(False)
    is_before = pl.lit(True) if last is None else (stay <= last).fill_null(is_first)
    return is_after & is_before
