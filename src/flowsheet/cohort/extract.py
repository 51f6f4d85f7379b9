"""A cohort extract: a folder of four Parquet tables and the manifest that says what they are.

::

    stays.parquet  events.parquet  treatments.parquet  episodes.parquet   sorted, one row group a batch
    quarantine.parquet     rows that broke a rule, with the reason (only when there are any)
    oracle/oracle.parquet  the law's own probabilities (simulated wards only; no part of the data)
    manifest.json          written last
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import Field, ValidationError

from flowsheet import __version__
from flowsheet.cohort.parquet import READ_ERRORS, read_verified, report_unreadable
from flowsheet.cohort.schema import TABLES, Tables
from flowsheet.config import FrozenModel
from flowsheet.errors import CheckFailed, first_line
from flowsheet.state.hashing import digest, file_digest
from flowsheet.state.json_files import read_json

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

_REMAKE = "make it again with `flowsheet ingest`"


class TableEntry(FrozenModel):
    """One file of the extract."""

    rows: int
    sha256: str


class SourceEntry(FrozenModel):
    """Where the rows came from."""

    name: str
    version: int = 1
    options: dict[str, Any] = Field(default_factory=dict)
    licence: str = "not stated"
    input: str = ""
    """Fingerprint of the raw records."""


class QuarantineEntry(FrozenModel):
    """Rows of one table set aside for one rule."""

    table: str
    rule: str
    rows: int


class Provenance(FrozenModel):
    """What the manifest says beside what the files themselves tell."""

    source: SourceEntry
    variables: tuple[str, ...] = ()
    """Catalogue variables that the extract can hold, in the order of the feature columns."""
    drugs: tuple[str, ...] = ()
    attrition: tuple[tuple[str, int], ...] = ()
    """Stays left after each step, in order."""
    exclusions: tuple[tuple[str, int], ...] = ()
    """Raw rows that the source's own rules left out, by reason."""
    source_counts: tuple[tuple[str, int], ...] = ()
    """What the source met and decided on the way."""
    quarantined: tuple[QuarantineEntry, ...] = ()
    quarantined_share: dict[str, float] = Field(default_factory=dict)
    """Per table, the share of its rows that broke a rule."""


class PrevalenceEntry(FrozenModel):
    """How many of some stays have an episode."""

    by: str
    """What tells the stays apart: ``site``, ``unit``, ``admission order`` or ``all``."""
    group: str
    stays: int
    with_episode: int


class Manifest(Provenance):
    """What an extract is: enough to trust it, cite it and make it again."""

    schema_version: int = SCHEMA_VERSION
    flowsheet: str = __version__
    fingerprint: str
    tables: dict[str, TableEntry]
    counts: dict[str, int]
    """subjects, stays, stays_with_episode, events, treatments, episodes, and hours observed."""
    prevalence: tuple[PrevalenceEntry, ...] = ()
    """Of all stays, and by site, care unit and fifth of the order of admission."""


@dataclass(frozen=True)
class Extract:
    """A complete extract on disk."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, folder: Path, *, verify: bool = False) -> Extract:
        """Open an extract; ``verify`` also compares every file's sha256.

        Raises:
            CheckFailed: there is none, it is not whole, it speaks another schema version, or a file
            was changed.
        """
        manifest = read_manifest(folder)
        for table in TABLES:
            file = folder / f"{table}.parquet"
            if table not in manifest.tables or not file.is_file():
                raise CheckFailed(
                    f"the extract lacks its table {table!r}", where=str(file), todo=_REMAKE
                )
            if verify and file_digest(file) != manifest.tables[table].sha256:
                what = f"the table {table!r} is not the one that was written (sha256 differs)"
                raise CheckFailed(what, where=str(file), todo=_REMAKE)
        if verify and manifest.fingerprint != fingerprint_of(manifest.tables):
            raise CheckFailed(
                "the manifest's fingerprint is not its tables'", where=str(folder), todo=_REMAKE
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
        with report_unreadable(self.path, "the extract", _REMAKE):
            return Tables(**{table: self.scan(table).collect() for table in TABLES})


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an extract.

    Raises:
        CheckFailed: there is none, it is damaged, or it speaks another schema version.
    """
    file = folder / "manifest.json"
    if not file.is_file():
        what = (
            "there is no extract here" if not folder.is_dir() else "the folder has no manifest.json"
        )
        raise CheckFailed(
            what, where=str(folder), todo="name a folder that `flowsheet ingest` has made"
        )
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
        raise CheckFailed(
            f"the manifest is damaged: {key}: {first['msg']}", where=str(file), todo=_REMAKE
        ) from error
    except (ValueError, OSError) as error:
        raise CheckFailed(
            f"the manifest cannot be read: {error}", where=str(file), todo=_REMAKE
        ) from error


def fingerprint_of(tables: dict[str, TableEntry]) -> str:
    """sha256 over the schema version and the tables' own."""
    return digest([SCHEMA_VERSION, {name: entry.sha256 for name, entry in tables.items()}])


def check_extract(folder: Path) -> pl.DataFrame:
    """Everything that is wrong with an extract on disk, one line each (table, row, key, column,
    rule, value).

    The tables are checked whether or not there is a manifest to compare them with.
    """
    from flowsheet.cohort import checks  # pandera is heavy, and only validation needs it

    if not folder.is_dir():
        return _faults([("extract", "missing_folder", str(folder))])
    faults, manifest = _manifest_faults(folder)
    frames: dict[str, pl.DataFrame] = {}
    for table in TABLES:
        file = folder / f"{table}.parquet"
        if not file.is_file():
            faults.append((table, "missing_file", str(file)))
            continue
        if (
            manifest
            and table in manifest.tables
            and manifest.tables[table].sha256 != file_digest(file)
        ):
            faults.append((table, "sha256", "not the file that the manifest tells of"))
        try:
            frames[table] = read_verified(file)
        except READ_ERRORS as error:
            faults.append((table, "unreadable_file", first_line(error)))
    return pl.concat([_faults(faults), checks.find_failures(frames)])


def _manifest_faults(folder: Path) -> tuple[list[tuple[str, str, str]], Manifest | None]:
    try:
        manifest = read_manifest(folder)
    except CheckFailed as error:
        rule = "manifest" if (folder / "manifest.json").exists() else "missing_manifest"
        return [("manifest", rule, error.what)], None
    faults = [
        ("manifest", "missing_entry", table) for table in TABLES if table not in manifest.tables
    ]
    if manifest.fingerprint != fingerprint_of(manifest.tables):
        faults.append(("manifest", "fingerprint", "does not follow from the tables' sha256"))
    return faults, manifest


def _faults(rows: list[tuple[str, str, str]]) -> pl.DataFrame:
    from flowsheet.cohort.checks import FAILURES

    lines = [{"table": table, "rule": rule, "value": value} for table, rule, value in rows]
    return pl.DataFrame(lines, schema=FAILURES)


def read_oracle(extract: Extract) -> pl.DataFrame | None:
    """(stay_id, time, probability) under a simulated ward's own law; None where there is no law to know."""
    file = extract.path / "oracle" / "oracle.parquet"
    if not file.is_file():
        return None
    with report_unreadable(file, "the oracle", _REMAKE):
        return pl.read_parquet(file, glob=False)
