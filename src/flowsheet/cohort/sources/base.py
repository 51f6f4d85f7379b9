"""The interface of a source: raw records in, batches of stays in the contract's four tables out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import polars as pl

from flowsheet.cohort.completeness import Needs
from flowsheet.cohort.record_files import walk_files
from flowsheet.cohort.schema import empty_table
from flowsheet.config import FrozenModel
from flowsheet.plugins import Origin, Registry
from flowsheet.project import current_project

DEFECTS: dict[str, pl.DataType] = {
    "table": pl.String(),  # the contract's table, or the raw file's kind
    "key": pl.String(),  # e.g. "stay 12, 2000-01-01 05:00" or "p000012.psv row 7"
    "column": pl.String(),
    "rule": pl.String(),
    "value": pl.String(),
}


@dataclass(frozen=True)
class StayBatch:
    """A batch of complete stays, with exactly the columns and types of ``cohort.schema``."""

    stays: pl.DataFrame
    events: pl.DataFrame = field(default_factory=lambda: empty_table("events"))
    treatments: pl.DataFrame = field(default_factory=lambda: empty_table("treatments"))
    episodes: pl.DataFrame = field(default_factory=lambda: empty_table("episodes"))
    defects: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=DEFECTS))
    """One row for each raw record that cannot be converted to a row of the contract.

    The quarantine policy of the cohort applies to them as to every other broken rule.
    """
    first_onsets: pl.DataFrame = field(default_factory=pl.DataFrame)
    """The first onset of stays by several definitions of the response: stay_id, and a column a
    definition. They are compared over all batches; a source may give a sample of its stays."""
    rows_read: dict[str, int] = field(default_factory=dict)
    """Raw rows that were looked at, defective ones included, by the ``table`` of their defects.

    The share of defective rows is a share of these; without them, of the contract's rows.
    """
    attrition: dict[str, int] = field(default_factory=dict)
    """Stays that remain after each selection step ("in the raw tables", "age >= 18", ...).

    Like the next two, it is summed over batches.
    """
    exclusions: dict[str, int] = field(default_factory=dict)
    """Number of raw rows that the source excludes, by reason ("charted in error", ...)."""
    stay_names: dict[int, str] = field(default_factory=dict)
    """What the records call stays whose ids are texts there; the quarantine and errors show it."""
    source_counts: dict[str, int] = field(default_factory=dict)
    """Other counts that describe the data ("times of suspicion", ...)."""


class SourceSize(NamedTuple):
    """About how much a source has, known without reading its records."""

    stays: int
    hours: float
    """Of all stays together."""


_EXTRACT_BYTES = {"csv": 0.02, "psv": 0.02, "txt": 0.02, "tsv": 0.02}
"""Bytes of an extract for a byte of a text file. Of the demo of MIMIC-III and of simulated raw
tables an extract has 0.13 to 0.14 of the bytes of the compressed files, which hold a seventh."""
_EXTRACT_BYTES_OF_COMPRESSED = 0.13


class Source(ABC):
    """One kind of raw records.

    A new source is one new module in this package: a subclass with ``@SOURCES.register("name")``,
    an ``Options`` model with a documented default for every choice, and a test that subclasses the
    conformance suite ``flowsheet.testing.sources.SourceConformance``.

    A source does not repeat the validation of the contract. It must raise ``CheckFailed`` (file,
    row, column, how to fix it) for input that it cannot read at all, and must not write anything.
    """

    Options: ClassVar[type[FrozenModel]] = FrozenModel
    needs_path: ClassVar[bool] = True
    reads_extracts: ClassVar[bool] = False
    """Whether its records are an extract, which may be in an object store."""
    version: ClassVar[int] = 1
    """Increase it when the same raw records give other rows: cached extracts are then rebuilt."""
    licence: str = "not stated"
    variables: tuple[str, ...] = ()
    """Catalogue variables that the source can contain, in the order of the feature columns."""
    drugs: tuple[str, ...] = ()
    responses: tuple[str, ...] = ()
    """Of which the source itself gives the episodes; a cohort may add others."""
    stay_columns: ClassVar[tuple[str, ...]] = ("age", "sex")
    """Columns of stays that the source can fill; one without any value is a warning."""
    rules: ClassVar[tuple[str, ...]] = ()
    """Rules that may occur in the defects; a cohort may declare a policy for each."""
    hints: ClassVar[Mapping[str, str]] = {}
    """What a valid value looks like, for some of the rules; errors show it."""

    def __init__(self, path: Path | None, options: Any) -> None:
        """``options`` is an instance of the source's ``Options``."""
        self.path = path
        self.options = options

    @abstractmethod
    def fingerprint(self) -> str:
        """sha256 of the content of the raw input, without the options.

        Raises:
            CheckFailed: the input is missing, or is not of this kind.
        """

    @abstractmethod
    def batches(self) -> Iterator[StayBatch]:
        """Batches in strictly ascending order of stay_id, equal for equal input."""

    def input_files(self) -> list[Path]:
        """The files with the records, or more: only their sizes are looked at."""
        if self.path is None:
            return []
        return walk_files(self.path, ("",)) if self.path.is_dir() else [self.path]

    def own_files(self) -> list[Path]:
        """Files beside the records that say how these are read."""
        return []

    def estimate_bytes(self) -> int:
        """About how many bytes the extract will have, by the size and kind of the files."""
        sizes = [
            file.stat().st_size
            * _EXTRACT_BYTES.get(file.suffix.lower().lstrip("."), _EXTRACT_BYTES_OF_COMPRESSED)
            for file in self.input_files()
        ]
        return round(sum(sizes))

    def estimate_size(self) -> SourceSize | None:
        """How much there is, where that is known without reading the records; None elsewhere."""
        return None

    def needs(self) -> Needs:
        """What the source cannot do without; an extract that lacks it is refused."""
        return Needs()

    def choices(self) -> dict[str, str]:
        """What the source has chosen by looking at the records, and why, by the name of the choice.

        They are printed and kept in the manifest, such as the mapping of codes.
        """
        return {}

    def warnings(self) -> list[str]:
        """What the records contain or lack that users should know, after all batches."""
        return []

    def oracle(self) -> pl.DataFrame | None:
        """The true probabilities (stay_id, time, probability) of a simulated ward.

        They are stored apart from the tables.
        """
        return None


class SourceRegistry(Registry[Source]):
    """Sources, and databases of others: each YAML is a source.

    A database ``eicu`` is the file ``databases/eicu.yaml`` of the current project's package, or of
    a package that an entry point ``eicu`` of the group ``flowsheet.databases`` names.
    """

    def _origins(self) -> dict[str, list[Origin]]:
        origins = super()._origins()
        for name, file in _find_databases():
            load = partial(_make_database_source, name, file)
            origins.setdefault(name, []).append(Origin(str(file), load))
        return origins


def _find_databases() -> Iterator[tuple[str, Path]]:
    for entry in entry_points(group="flowsheet.databases"):
        yield entry.name, Path(str(files(entry.value))) / f"{entry.name}.yaml"
    project = current_project()
    if project is not None and project.package is not None:
        folder = project.import_folder / project.package / "databases"
        for file in sorted(folder.glob("*.yaml")):
            yield file.stem, file


def _make_database_source(name: str, file: Path) -> type[Source]:
    from flowsheet.cohort.engine.source import DatabaseSource  # it needs this module

    members = {"database_file": file, "__doc__": f"The database {name}, described by {file.name}."}
    database: type[DatabaseSource] = type(name, (DatabaseSource,), members)
    database.Options = database.choose_options()
    return database


SOURCES = SourceRegistry("source", "flowsheet.cohort.sources")
