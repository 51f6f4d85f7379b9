"""A cohort extract: a folder of four Parquet tables and the manifest that says what they are.

::

    stays.parquet  events.parquet  treatments.parquet  episodes.parquet   sorted, one row group a batch
    quarantine.parquet     rows that broke a rule, with the reason (only when there are any)
    oracle/oracle.parquet  the law's own probabilities (simulated wards only; no part of the data)
    manifest.json          written last
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, ValidationError

from flowsheet import __version__
from flowsheet.cohort.schema import SORT_KEYS, TABLES, Tables
from flowsheet.config import Frozen
from flowsheet.errors import CheckFailed
from flowsheet.home import digest, file_digest, publish, read_json, write_json

SCHEMA_VERSION = 1
"""Version of the four tables' contract; an extract of another one is refused."""

QUARANTINE: dict[str, pl.DataType] = {
    "table": pl.String(),
    "stay_id": pl.Int64(),  # null: the row never became a row of a stay
    "key": pl.String(),
    "column": pl.String(),
    "rule": pl.String(),
    "value": pl.String(),
    "row": pl.String(),  # the whole row as JSON; null: a raw row that could not be read
}

_ARROW = {
    pl.Int64(): pa.int64(),
    pl.Float64(): pa.float64(),
    pl.String(): pa.string(),
    pl.Datetime("us"): pa.timestamp("us"),
}
_REMAKE = "make it again with `flowsheet ingest`"


class TableEntry(Frozen):
    """One file of the extract."""

    rows: int
    sha256: str


class SourceEntry(Frozen):
    """Where the rows came from."""

    name: str
    version: int = 1
    options: dict[str, Any] = Field(default_factory=dict)
    licence: str = "not stated"
    input: str = ""
    """Fingerprint of the raw records."""


class QuarantineEntry(Frozen):
    """Rows of one table set aside for one rule."""

    table: str
    rule: str
    rows: int


class Provenance(Frozen):
    """What the manifest says beside what the files themselves tell."""

    source: SourceEntry
    variables: tuple[str, ...] = ()
    """Catalogue variables that the extract can hold, in the order of the feature columns."""
    drugs: tuple[str, ...] = ()
    attrition: tuple[tuple[str, int], ...] = ()
    """Stays left after each step, in order."""
    quarantined: tuple[QuarantineEntry, ...] = ()
    quarantined_share: dict[str, float] = Field(default_factory=dict)
    """Per table, the share of its rows that broke a rule."""


class Manifest(Provenance):
    """What an extract is: enough to trust it, cite it and make it again."""

    schema_version: int = SCHEMA_VERSION
    flowsheet: str = __version__
    fingerprint: str
    tables: dict[str, TableEntry]
    counts: dict[str, int]
    """subjects, stays, stays_with_episode, events, treatments, episodes, and hours observed."""


@dataclass(frozen=True)
class Extract:
    """A complete extract on disk."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, folder: Path, *, verify: bool = False) -> Extract:
        """Open an extract; ``verify`` also compares every file's sha256.

        Raises:
            CheckFailed: there is none, it is not whole, it speaks another schema version, or a file was changed.
        """
        manifest = read_manifest(folder)
        for table, entry in manifest.tables.items():
            file = folder / f"{table}.parquet"
            if not file.is_file():
                raise CheckFailed(f"the extract lacks its table {table!r}", where=str(file), todo=_REMAKE)
            if verify and file_digest(file) != entry.sha256:
                raise CheckFailed(
                    f"the table {table!r} is not the one that was written (sha256 differs)",
                    where=str(file),
                    todo=_REMAKE,
                )
        return cls(folder, manifest)

    @property
    def fingerprint(self) -> str:
        """sha256 over the schema version and the four tables' content."""
        return self.manifest.fingerprint

    def scan(self, table: str) -> pl.LazyFrame:
        """One of the four tables, unread."""
        return pl.scan_parquet(self.path / f"{table}.parquet", glob=False)

    def tables(self) -> Tables:
        """The four tables, in memory.

        Raises:
            CheckFailed: a file cannot be read.
        """
        with _readable(self.path):
            return Tables(**{table: self.scan(table).collect() for table in TABLES})


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an extract.

    Raises:
        CheckFailed: there is none, it is damaged, or it speaks another schema version.
    """
    file = folder / "manifest.json"
    if not file.is_file():
        what = "there is no extract here" if not folder.is_dir() else "the folder has no manifest.json"
        raise CheckFailed(what, where=str(folder), todo="name a folder that `flowsheet ingest` has made")
    try:
        raw = read_json(file)
        if not isinstance(raw, dict):
            raise CheckFailed("the manifest is not a mapping", where=str(file), todo=_REMAKE)
        if raw.get("schema_version") != SCHEMA_VERSION:
            what = f"schema version {raw.get('schema_version')!r} is not {SCHEMA_VERSION}, the one this version reads"
            raise CheckFailed(what, where=str(file), todo=_REMAKE)
        return Manifest.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise CheckFailed(f"the manifest is damaged: {key}: {first['msg']}", where=str(file), todo=_REMAKE) from error
    except (ValueError, OSError) as error:
        raise CheckFailed(f"the manifest cannot be read: {error}", where=str(file), todo=_REMAKE) from error


def read_oracle(extract: Extract) -> pl.DataFrame | None:
    """(stay_id, time, probability) under a simulated ward's own law; None where there is no law to know."""
    file = extract.path / "oracle" / "oracle.parquet"
    if not file.is_file():
        return None
    with _readable(file):
        return pl.read_parquet(file, glob=False)


class ExtractWriter:
    """Writes an extract batch by batch into a folder that nobody reads yet; memory holds one batch.

    Batches come in ascending order of stays. The bytes depend on the rows and the batches alone.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files = ExitStack()
        self._writers: dict[str, pq.ParquetWriter] = {}
        self._counts = dict.fromkeys(("stays", "events", "treatments", "episodes", "stays_with_episode"), 0)
        self._hours = 0.0
        self._subjects: list[pl.Series] = []

    def __enter__(self) -> ExtractWriter:
        for table, columns in TABLES.items():
            self._open(table, columns)
        return self

    def __exit__(self, *exc: object) -> None:
        self._files.close()

    def add(self, tables: Tables) -> None:
        """Write the rows of some more stays."""
        for table in TABLES:
            frame: pl.DataFrame = getattr(tables, table)
            self._write(table, in_order(table, frame))
            self._counts[table] += frame.height
        self._counts["stays_with_episode"] += tables.episodes["stay_id"].n_unique()
        self._hours += observed_hours(tables.stays)
        self._subjects.append(tables.stays["subject_id"].unique())

    def add_quarantined(self, rows: pl.DataFrame) -> None:
        """Set rows aside; columns as in ``QUARANTINE``."""
        if rows.is_empty():
            return
        if "quarantine" not in self._writers:
            self._open("quarantine", QUARANTINE)
        self._write("quarantine", rows)

    def add_oracle(self, oracle: pl.DataFrame) -> None:
        """Keep the law's own probabilities apart from the tables."""
        (self.folder / "oracle").mkdir()
        with (self.folder / "oracle" / "oracle.parquet").open("wb") as stream:
            pq.write_table(oracle.to_arrow(), stream, compression="zstd")

    def finish(self, provenance: Provenance) -> Manifest:
        """Close the files and write the manifest, last of all."""
        self._files.close()
        files = {name: self.folder / f"{name}.parquet" for name in TABLES}
        tables = {n: TableEntry(rows=self._counts[n], sha256=file_digest(file)) for n, file in files.items()}
        subjects = pl.concat(self._subjects).n_unique() if self._subjects else 0
        manifest = Manifest(
            **dict(provenance),
            fingerprint=digest([SCHEMA_VERSION, {name: entry.sha256 for name, entry in tables.items()}]),
            tables=tables,
            counts={"subjects": subjects, **self._counts, "hours": round(self._hours)},
        )
        write_json(self.folder / "manifest.json", manifest.model_dump(mode="json"))
        return manifest

    def _open(self, name: str, columns: dict[str, pl.DataType]) -> None:
        stream = self._files.enter_context((self.folder / f"{name}.parquet").open("wb"))
        schema = pa.schema([(column, _ARROW[dtype]) for column, dtype in columns.items()])
        writer = pq.ParquetWriter(stream, schema, compression="zstd", store_schema=False)
        self._writers[name] = self._files.enter_context(writer)

    def _write(self, name: str, frame: pl.DataFrame) -> None:
        if frame.height:
            self._writers[name].write_table(
                frame.to_arrow().cast(self._writers[name].schema), row_group_size=frame.height
            )


def write(tables: Tables, target: Path, provenance: Provenance) -> Extract:
    """Write whole tables as an extract, unchecked; ``ingest`` is the way for raw records.

    Raises:
        FlowsheetError: the disk is full or not writable.
    """
    with publish(target) as folder, ExtractWriter(folder) as writer:
        writer.add(tables)
        manifest = writer.finish(provenance)
    return Extract(target, manifest)


def in_order(table: str, frame: pl.DataFrame) -> pl.DataFrame:
    """The rows in the contract's order; the columns beside the sort keys break ties."""
    rest = [column for column in TABLES[table] if column not in SORT_KEYS[table]]
    return frame.sort([*SORT_KEYS[table], *rest])


def observed_hours(stays: pl.DataFrame) -> float:
    """Hours from the begin of each record to its end, summed."""
    begin = pl.coalesce("observed_from", "admitted_at")
    return float(stays.select(((pl.col("discharged_at") - begin).dt.total_microseconds() / 3.6e9).sum()).item())


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise CheckFailed(f"the extract cannot be read: {reason}", where=str(path), todo=_REMAKE) from error
