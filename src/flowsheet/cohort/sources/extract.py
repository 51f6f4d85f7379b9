"""Tables of the contract that were made elsewhere: a folder with four Parquet files, with or without a manifest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from flowsheet.cohort import catalogue
from flowsheet.cohort.extract import Manifest, read_manifest
from flowsheet.cohort.parquet import read_verified, report_unreadable
from flowsheet.cohort.schema import TABLES, empty_table
from flowsheet.cohort.sources.base import SOURCES, Source, StayBatch
from flowsheet.config import FrozenModel
from flowsheet.errors import CheckFailed
from flowsheet.state.hashing import digest, file_digest

_STAYS_A_BATCH = 5_000
_MUST_BE = ("stays", "events")
_OPTIONAL = {
    "site",
    "hospital_admitted_at",
    "observed_from",
    "height_cm",
    "weight_kg",
    "unit",
    "admission_type",
}


class ExtractOptions(FrozenModel):
    """There is nothing to choose."""


@SOURCES.register("extract")
class ExtractFolder(Source):
    """The extract's own tables, from a folder; treatments and episodes may be missing."""

    Options: ClassVar[type[FrozenModel]] = ExtractOptions
    licence: str = "as their owner states it"

    def __init__(self, path: Path | None, options: Any) -> None:
        super().__init__(path, options)
        assert path is not None
        self._folder = path
        manifest = self._manifest()
        self.variables = (
            manifest.variables
            if manifest
            else self._named("events", "variable", catalogue.variables())
        )
        self.drugs = (
            manifest.drugs if manifest else self._named("treatments", "drug", catalogue.drugs())
        )
        if manifest:
            self.licence = manifest.source.licence

    def fingerprint(self) -> str:
        """sha256 over the files' own."""
        files = {table: self._file(table) for table in TABLES}
        return digest({table: file_digest(file) for table, file in files.items() if file.is_file()})

    def batches(self) -> Iterator[StayBatch]:
        """Some thousand stays at a time; rows of stays that no stay tells of come along, for the checks to name."""
        tables = {table: self._read(table) for table in TABLES}
        stays = tables.pop("stays").sort("stay_id", maintain_order=True)
        slices = list(stays.iter_slices(_STAYS_A_BATCH))
        after: Any = None
        for i, some in enumerate(slices):
            upto = None if i == len(slices) - 1 else some["stay_id"].max()
            rest = {table: frame.filter(_between(after, upto)) for table, frame in tables.items()}
            counted = {"in the tables": some.height}
            yield StayBatch(
                some, rest["events"], rest["treatments"], rest["episodes"], attrition=counted
            )
            after = upto

    def _manifest(self) -> Manifest | None:
        return read_manifest(self._folder) if (self._folder / "manifest.json").is_file() else None

    def _file(self, table: str) -> Path:
        return self._folder / f"{table}.parquet"

    def _read(self, table: str) -> pl.DataFrame:
        """The table with the contract's columns in its order; optional columns may be missing.

        Raises:
            CheckFailed: the file is missing or unreadable, or a column cannot be what the contract
            says.
        """
        file = self._file(table)
        if not file.is_file():
            if table in _MUST_BE:
                raise CheckFailed(
                    f"the folder lacks the table {table!r}", where=str(file), todo="write that file"
                )
            return empty_table(table)
        with report_unreadable(file, f"the table {table!r}", "see it with flowsheet validate"):
            frame = read_verified(file)
            return frame.select(_column(frame, name, kind) for name, kind in TABLES[table].items())

    def _named(self, table: str, column: str, known: dict[str, Any]) -> tuple[str, ...]:
        """What the table speaks of, in the catalogue's order."""
        present = set(self._read(table)[column].unique().to_list())
        return tuple(name for name in known if name in present)


def _between(after: Any, upto: Any) -> pl.Expr:
    """Rows of stays after one and up to another; those without a stay come first."""
    stay = pl.col("stay_id")
    low = pl.lit(True) if after is None else (stay > after).fill_null(False)
    high = pl.lit(True) if upto is None else (stay <= upto).fill_null(after is None)
    return low & high


def _column(frame: pl.DataFrame, name: str, kind: pl.DataType) -> pl.Expr:
    absent_is_null = name in _OPTIONAL and name not in frame.columns
    return (pl.lit(None) if absent_is_null else pl.col(name)).cast(kind).alias(name)
