"""The contract's tables, written by another program: a folder with up to four Parquet files.

A manifest is optional.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from flowsheet.cohort import catalogue
from flowsheet.cohort.extract import read_manifest
from flowsheet.cohort.parquet import read_verified, report_unreadable
from flowsheet.cohort.schema import OPTIONAL_COLUMNS, TABLES, empty_table
from flowsheet.cohort.sources.base import SOURCES, Source, StayBatch
from flowsheet.config import FrozenModel
from flowsheet.errors import CheckFailed
from flowsheet.state.hashing import digest, file_digest

_STAYS_PER_BATCH = 5_000
_REQUIRED_TABLES = ("stays", "events")


class ExtractOptions(FrozenModel):
    """This source has no options."""


@SOURCES.register("extract")
class ExtractFolder(Source):
    """The tables of an extract in a folder; treatments and episodes may be missing."""

    Options: ClassVar[type[FrozenModel]] = ExtractOptions
    licence: str = "as stated by the owner of the tables"

    def __init__(self, path: Path | None, options: Any) -> None:
        super().__init__(path, options)
        assert path is not None
        self._folder = path
        if (self._folder / "manifest.json").is_file():
            manifest = read_manifest(self._folder)
            self.variables = manifest.variables
            self.drugs = manifest.drugs
            self.licence = manifest.source.licence
        else:
            self.variables = self._find_names("events", "variable", catalogue.variables())
            self.drugs = self._find_names("treatments", "drug", catalogue.drugs())

    def fingerprint(self) -> str:
        """sha256 of the sha256 of each file."""
        files = {table: self._file(table) for table in TABLES}
        return digest({table: file_digest(file) for table, file in files.items() if file.is_file()})

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
            )
            previous_last = last

    def _file(self, table: str) -> Path:
        return self._folder / f"{table}.parquet"

    def _read(self, table: str) -> pl.DataFrame:
        """The table with the columns of the contract; missing optional columns are null.

        Raises:
            CheckFailed: the file is missing or unreadable, or a column cannot be converted to the
            type of the contract.
        """
        file = self._file(table)
        if not file.is_file():
            if table in _REQUIRED_TABLES:
                raise CheckFailed(
                    f"the folder lacks the table {table!r}", where=str(file), todo="add that file"
                )
            return empty_table(table)
        with report_unreadable(file, f"the table {table!r}", "check it with flowsheet validate"):
            frame = read_verified(file)
            schema = TABLES[table].items()
            return frame.select(_column(frame, table, name, dtype) for name, dtype in schema)

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


def _column(frame: pl.DataFrame, table: str, name: str, dtype: pl.DataType) -> pl.Expr:
    is_missing = name in OPTIONAL_COLUMNS[table] and name not in frame.columns
    return (pl.lit(None) if is_missing else pl.col(name)).cast(dtype).alias(name)
