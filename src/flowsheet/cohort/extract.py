"""A cohort extract: a folder with four Parquet tables and a manifest that describes them.

::

    stays.parquet  events.parquet  treatments.parquet  episodes.parquet
                           sorted, one row group per batch
    quarantine.parquet     rows that broke a rule, with the reason (only if there are any)
    oracle/oracle.parquet  true probabilities (simulated wards only; not part of the data)
    stay_digests.parquet   of the records of each stay: what a later extract did not change
    manifest.json          written last
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import Field, ValidationError

from flowsheet import __version__
from flowsheet.cohort.completeness import find_gaps, needs_of_tables
from flowsheet.cohort.lossless import conform
from flowsheet.cohort.parquet import READ_ERRORS, read_verified, report_unreadable
from flowsheet.cohort.record_files import find_table_files
from flowsheet.cohort.remote_extracts import local_extract
from flowsheet.cohort.schema import LABEL, SORT_KEYS, TABLES, Tables
from flowsheet.config import FrozenModel
from flowsheet.errors import CheckFailed, UsageError, first_line
from flowsheet.state.hashing import digest, file_digest, file_digest_once
from flowsheet.state.json_files import read_json
from flowsheet.state.locations import Location

SCHEMA_VERSION = 3
"""Version of the contract of the four tables; extracts of other versions are rejected."""

MANIFEST_VERSION = 3
"""Version of the manifest's fields; cached extracts of another version are not used."""

QUARANTINE: dict[str, pl.DataType] = {
    "table": pl.String(),
    "stay_id": pl.Int64(),  # null: the row could not be assigned to a stay
    "key": pl.String(),
    "column": pl.String(),
    "rule": pl.String(),
    "value": pl.String(),
    "row": pl.String(),  # the whole row as JSON; null: a raw row that could not be parsed
}

REQUIRED_TABLES = ("stays", "events")
"""Tables that a folder of tables must have; the others may be absent."""

_REMAKE = "create it again with `flowsheet ingest`"


class TableEntry(FrozenModel):
    """One file of the extract."""

    rows: int
    sha256: str


class SourceEntry(FrozenModel):
    """Where the rows came from."""

    name: str
    version: int = 1
    options: dict[str, Any] = Field(default_factory=dict)
    choices: dict[str, str] = Field(default_factory=dict)
    """What the source has chosen by looking at the records, and why."""
    licence: str = "not stated"
    input: str = ""
    """Fingerprint of the raw records."""


class QuarantineEntry(FrozenModel):
    """The number of rows of one table that were quarantined for one rule."""

    table: str
    rule: str
    rows: int


class AgreementEntry(FrozenModel):
    """How two definitions of the response agree on the stays that were compared."""

    definition: str
    other: str
    stays: int
    stays_with_definition: int
    """Stays with an episode by the first definition."""
    stays_with_other: int
    stays_with_both: int
    kappa: float | None
    """Cohen's kappa; null where it is not defined."""
    median_hours_later: float | None
    """Of the first onset by the other definition, among stays with an episode by both."""


class Provenance(FrozenModel):
    """The part of the manifest that cannot be computed from the extract's files."""

    source: SourceEntry
    variables: tuple[str, ...] = ()
    """Catalogue variables that the extract can contain, in the order of the feature columns."""
    responses: tuple[str, ...] = ()
    """Of which the extract says when they were there; of others it has no episodes because nobody
    looked for them."""
    computed_responses: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """The options of the responses that were computed from the tables."""
    drugs: tuple[str, ...] = ()
    attrition: tuple[tuple[str, int], ...] = ()
    """Stays left after each selection step, in order."""
    exclusions: tuple[tuple[str, int], ...] = ()
    """Raw rows that the source's own rules excluded, by reason."""
    source_counts: tuple[tuple[str, int], ...] = ()
    """Other counts that the source reports."""
    definition_agreement: tuple[AgreementEntry, ...] = ()
    """How definitions of the response agree; a large cohort is compared on a sample of stays."""
    warnings: tuple[str, ...] = ()
    """What the records lack: what the source needs (``cohort.allow_empty``), then what it could
    have."""
    quarantined: tuple[QuarantineEntry, ...] = ()
    quarantined_share: dict[str, float] = Field(default_factory=dict)
    """Per table, the share of its rows that broke a rule."""


class PrevalenceEntry(FrozenModel):
    """How many stays of a group have an episode."""

    by: str
    """The column that groups the stays: ``site``, ``unit``, ``admission order`` or ``all``."""
    group: str
    stays: int
    with_episode: int
    response: str = LABEL
    """Of the episodes."""


class Manifest(Provenance):
    """The description of an extract: its origin, its content, and how to create it again."""

    schema_version: int = SCHEMA_VERSION
    flowsheet: str = __version__
    fingerprint: str
    tables: dict[str, TableEntry]
    counts: dict[str, int]
    """subjects, stays, stays_with_episode, events, treatments, episodes, and hours observed."""
    files: dict[str, str] = Field(default_factory=dict)
    """The sha256 of further files, such as ``quarantine.parquet``, by name."""
    prevalence: tuple[PrevalenceEntry, ...] = ()
    """By response: of all stays, and by site, care unit and fifth of the order of admission."""

    def prevalence_of(self, response: str) -> tuple[PrevalenceEntry, ...]:
        """The prevalence of one response."""
        return tuple(entry for entry in self.prevalence if entry.response == response)


@dataclass(frozen=True)
class Extract:
    """A complete extract on disk, or the copy of one in an object store."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, location: Location, *, verify: bool = False) -> Extract:
        """Open an extract; ``verify`` also compares the sha256 of every file, once
        in a process.

        One in an object store is opened by a local copy, which is always verified.

        Raises:
            CheckFailed: there is no extract, it is incomplete or has another schema version, or a
            file was changed.
        """
        folder = local_extract(location)
        manifest = read_manifest(folder)
        for table in TABLES:
            file = folder / f"{table}.parquet"
            if table not in manifest.tables or not file.is_file():
                what = f"the extract has no table {table!r}"
                raise CheckFailed(what, where=str(file), todo=_REMAKE)
            if verify and file_digest_once(file) != manifest.tables[table].sha256:
                what = f"the table {table!r} was changed: its sha256 differs from the manifest's"
                raise CheckFailed(what, where=str(file), todo=_REMAKE)
        if verify and manifest.fingerprint != fingerprint_of(manifest.tables):
            what = "the manifest's fingerprint does not match its tables"
            raise CheckFailed(what, where=str(folder), todo=_REMAKE)
        return cls(folder, manifest)

    @property
    def fingerprint(self) -> str:
        """sha256 of the schema version and the content of the four tables."""
        return self.manifest.fingerprint

    def check_response(self, response: str) -> None:
        """Refuse a response of which the extract does not say when it was there.

        Raises:
            UsageError: it has no episodes of the response, and nobody has looked for any.
        """
        present = self.manifest.responses
        if response in present:
            return
        has = f"it has those of {', '.join(present)}" if present else "it has none at all"
        ways = [f"set task.response={name}" for name in present]
        ways.append(f"add cohort.responses.{response}={{}} if it can be computed from the records")
        if LABEL in present:
            ways.append(f"say what the episodes are of with cohort.options.response={response}")
        raise UsageError(
            f"the extract has no episodes of the response {response!r}; {has}",
            where=str(self.path),
            todo="; or ".join(ways),
        )

    def scan(self, table: str) -> pl.LazyFrame:
        """One of the four tables, not yet read."""
        return pl.scan_parquet(self.path / f"{table}.parquet", glob=False)

    def tables(self, stays: Sequence[int] | None = None) -> Tables:
        """The four tables, in memory.

        Args:
            stays: the ids whose rows are wanted; None: all.

        Raises:
            CheckFailed: a file cannot be read.
        """
        is_wanted = pl.lit(True) if stays is None else pl.col("stay_id").is_in(list(stays))
        with report_unreadable(self.path, "the extract", _REMAKE):
            scans = {table: self.scan(table).filter(is_wanted) for table in TABLES}
            return Tables(**{table: scan.collect() for table, scan in scans.items()})


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an extract.

    Raises:
        CheckFailed: there is no manifest, it is damaged, or it has another schema version.
    """
    file = folder / "manifest.json"
    if not file.is_file():
        is_folder = folder.is_dir()
        what = "the folder has no manifest.json" if is_folder else "there is no extract here"
        todo = "name a folder that `flowsheet ingest` created"
        raise CheckFailed(what, where=str(folder), todo=todo)
    try:
        raw = read_json(file)
        if not isinstance(raw, dict):
            raise CheckFailed("the manifest is not a mapping", where=str(file), todo=_REMAKE)
        version = raw.get("schema_version")
        if version != SCHEMA_VERSION:
            raise CheckFailed(
                f"the extract has schema version {version!r}, of release {raw.get('flowsheet')}; "
                f"this Flowsheet ({__version__}) reads version {SCHEMA_VERSION}",
                where=str(file),
                todo=f"{_REMAKE}, or use the release that wrote it",
            )
        return Manifest.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        what = f"the manifest is damaged: {key}: {first['msg']}"
        raise CheckFailed(what, where=str(file), todo=_REMAKE) from error
    except (ValueError, OSError) as error:
        what = f"the manifest cannot be read: {error}"
        raise CheckFailed(what, where=str(file), todo=_REMAKE) from error


def fingerprint_of(tables: dict[str, TableEntry]) -> str:
    """sha256 of the schema version and the sha256 of each table."""
    return digest([SCHEMA_VERSION, {name: entry.sha256 for name, entry in tables.items()}])


def find_extract_files(folder: Path) -> dict[str, list[Path]]:
    """The files of each table in a folder; none for a table that it lacks."""
    return {table: find_table_files(folder, table, (".parquet",)) for table in TABLES}


def check_extract(location: Location, time_zone: str | None = None) -> pl.DataFrame:
    """Everything that is wrong with an extract, one row each; columns as in ``FAILURES``.

    Tables without a manifest are checked as the source ``extract`` reads them: optional tables and
    columns may be absent, types may be others if nothing is lost, and the order does not matter.

    Args:
        location: a folder with the contract's tables.
        time_zone: the zone to whose local time zoned times are converted (without a manifest).

    Raises:
        CheckFailed: there is no extract in the object store, or a file is not as it was written.
    """
    folder = local_extract(location)
    if not folder.is_dir():
        return _as_failures([("extract", "missing_folder", str(folder))])
    if (folder / "manifest.json").exists():
        return _check_written_extract(folder)
    return _check_own_tables(folder, time_zone)


def _check_own_tables(folder: Path, time_zone: str | None) -> pl.DataFrame:
    # pandera is slow to import; only validation needs it
    from flowsheet.cohort import checks

    parts = [pl.DataFrame(schema=checks.FAILURES)]
    frames: dict[str, pl.DataFrame] = {}
    for table, files in find_extract_files(folder).items():
        if not files and table in REQUIRED_TABLES:
            missing = str(folder / f"{table}.parquet")
            parts.append(_as_failures([(table, "missing_file", missing)]))
        tables = []
        for file in files:
            try:
                conformed = conform(table, read_verified(file), time_zone)
            except READ_ERRORS as error:
                parts.append(_as_failures([(table, "unreadable_file", first_line(error))]))
                continue
            rows = [{**vars(problem), "row": None} for problem in conformed.problems]
            parts.append(pl.DataFrame(rows, schema=checks.FAILURES))
            if not conformed.problems:
                tables.append(conformed.rows)
        if tables and len(tables) == len(files):
            frames[table] = pl.concat(tables).sort(SORT_KEYS[table], maintain_order=True)
    parts.append(_find_gaps(frames))
    return pl.concat([*parts, checks.find_failures(frames)])


def _find_gaps(frames: dict[str, pl.DataFrame]) -> pl.DataFrame:
    if not frames.keys() >= {*REQUIRED_TABLES}:
        return _as_failures([])
    rows = {table: frame.height for table, frame in frames.items()}
    variables = set(frames["events"].drop_nulls("value")["variable"])
    gaps = find_gaps(needs_of_tables(frames), rows, variables, {})
    return _as_failures([("extract", "incomplete", gap) for gap in gaps])


def _check_written_extract(folder: Path) -> pl.DataFrame:
    from flowsheet.cohort import checks

    problems, manifest = _check_manifest(folder)
    frames: dict[str, pl.DataFrame] = {}
    for table in TABLES:
        file = folder / f"{table}.parquet"
        if not file.is_file():
            problems.append((table, "missing_file", str(file)))
            continue
        entry = manifest.tables.get(table) if manifest else None
        if entry and entry.sha256 != file_digest(file):
            problems.append((table, "sha256", "differs from the manifest's"))
        try:
            frames[table] = read_verified(file)
        except READ_ERRORS as error:
            problems.append((table, "unreadable_file", first_line(error)))
    return pl.concat([_as_failures(problems), checks.find_failures(frames)])


def _check_manifest(folder: Path) -> tuple[list[tuple[str, str, str]], Manifest | None]:
    """(table, rule, value) of each problem, and the manifest if it can be read."""
    try:
        manifest = read_manifest(folder)
    except CheckFailed as error:
        return [("manifest", "manifest", error.what)], None
    missing = [table for table in TABLES if table not in manifest.tables]
    problems = [("manifest", "missing_entry", table) for table in missing]
    if manifest.fingerprint != fingerprint_of(manifest.tables):
        problems.append(("manifest", "fingerprint", "does not match the sha256 of the tables"))
    return problems, manifest


def _as_failures(problems: list[tuple[str, str, str]]) -> pl.DataFrame:
    from flowsheet.cohort.checks import FAILURES

    rows = [{"table": table, "rule": rule, "value": value} for table, rule, value in problems]
    return pl.DataFrame(rows, schema=FAILURES)


def read_oracle(extract: Extract) -> pl.DataFrame | None:
    """True probabilities (stay_id, time, probability); None if the extract is not simulated."""
    file = extract.path / "oracle" / "oracle.parquet"
    if not file.is_file():
        return None
    with report_unreadable(file, "the oracle", _REMAKE):
        return pl.read_parquet(file, glob=False)
