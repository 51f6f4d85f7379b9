"""Cohort extracts and their stays."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import polars as pl

from flowsheet.api._html import describe
from flowsheet.cohort.extract import Extract as _Extract
from flowsheet.cohort.extract import Manifest, read_oracle
from flowsheet.cohort.remote_extracts import check_free, upload_extract
from flowsheet.cohort.schema import Tables
from flowsheet.compose import compose_cohort
from flowsheet.config import CohortConfig, ExperimentConfig, validate_config
from flowsheet.config.overrides import absolute_location
from flowsheet.errors import CheckFailed, UsageError
from flowsheet.lifecycle.experiment.extract_batches import load_stays
from flowsheet.lifecycle.experiment.prepare import ingest_cohort, open_extract
from flowsheet.progress import report
from flowsheet.state.locations import parse_location
from flowsheet.state.object_store import RemoteFolder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flowsheet.api._model import Predictor


class Extract:
    """A validated cohort: four tables as lazy polars frames, and a manifest.

    ``fs.Extract("ward/")`` opens a folder that ``flowsheet ingest`` or ``simulate`` wrote.

    Examples:
        >>> import flowsheet as fs
        >>> ward = fs.ingest("simulated_small", stays=60)
        >>> len(ward.events.filter(variable="hr").collect()) > 1000
        True
    """

    def __init__(self, path: str | Path) -> None:
        """Open the extract in a folder, or in an object store (``s3://BUCKET/NAME``).

        Raises:
            CheckFailed: there is none, or it is incomplete.
        """
        self._extract = _Extract.open(parse_location(path))

    @property
    def path(self) -> Path:
        """Its folder."""
        return self._extract.path

    @property
    def manifest(self) -> Manifest:
        """Origin, counts, attrition, exclusions and warnings."""
        return self._extract.manifest

    @property
    def fingerprint(self) -> str:
        """sha256 of the content of the four tables."""
        return self._extract.fingerprint

    @property
    def stays(self) -> pl.LazyFrame:
        """One row a stay."""
        return self._extract.scan("stays")

    @property
    def events(self) -> pl.LazyFrame:
        """One row a charted fact: stay_id, time, known_at, variable, value."""
        return self._extract.scan("events")

    @property
    def treatments(self) -> pl.LazyFrame:
        """One row a drug exposure."""
        return self._extract.scan("treatments")

    @property
    def episodes(self) -> pl.LazyFrame:
        """One row a stretch of the response, such as sepsis."""
        return self._extract.scan("episodes")

    @property
    def oracle(self) -> pl.DataFrame | None:
        """The true probabilities of a simulated ward; None for other records."""
        return read_oracle(self._extract)

    def stay(self, stay_id: int) -> Stay:
        """The four tables of one stay.

        Raises:
            UsageError: there is no such stay.

        Examples:
            >>> import flowsheet as fs
            >>> ward = fs.ingest("simulated_small", stays=60)
            >>> ward.stay(7).tables.stays["stay_id"].to_list()
            [7]
        """
        tables = load_stays(self._extract, [stay_id])
        if tables.stays.is_empty():
            first = self.stays.select("stay_id").head(3).collect()["stay_id"].to_list()
            raise UsageError(
                f"there is no stay {stay_id}",
                where=str(self.path),
                todo=f"stays are numbered {', '.join(map(str, first))}, ...",
            )
        return Stay(stay_id, tables)

    def tables(self) -> Tables:
        """The four tables, in memory."""
        return self._extract.tables()

    def save(self, folder: str | Path) -> Self:
        """Copy the extract to a new folder.

        Raises:
            UsageError: the folder exists.

        Examples:
            >>> import flowsheet as fs
            >>> import tempfile
            >>> from pathlib import Path
            >>> ward = fs.ingest("simulated_small", stays=60)
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     saved = ward.save(Path(folder) / "ward")
            >>> saved.fingerprint == ward.fingerprint
            True
        """
        target = parse_location(folder)
        if isinstance(target, RemoteFolder):
            check_free(target, force=False)
            upload_extract(self.path, target)
        elif target.exists():
            raise UsageError("the folder exists", where=str(folder), todo="give another name")
        else:
            shutil.copytree(self.path, target)
        return type(self)(folder)

    def __repr__(self) -> str:
        counts = self.manifest.counts
        return f"Extract({counts['stays']:,} stays, {counts['events']:,} events, {self.path})"

    def _repr_html_(self) -> str:
        source = self.manifest.source.name
        facts = {"source": source, **self.manifest.counts, "folder": self.path}
        return describe("Extract", facts, self.stays.head(5).collect())


@dataclass(frozen=True)
class Stay:
    """One stay, in memory.

    Examples:
        >>> import flowsheet as fs
        >>> ward = fs.ingest("simulated_small", stays=60)
        >>> ward.stay(7).events.columns
        ['stay_id', 'time', 'known_at', 'variable', 'value']
    """

    stay_id: int
    tables: Tables

    @property
    def events(self) -> pl.DataFrame:
        """Its charted facts."""
        return self.tables.events

    @property
    def treatments(self) -> pl.DataFrame:
        """Its drug exposures."""
        return self.tables.treatments

    @property
    def episodes(self) -> pl.DataFrame:
        """Its stretches of the response."""
        return self.tables.episodes

    def plot(self, risk: Predictor | Mapping[str, Predictor] | None = None) -> Any:
        """Vital signs, laboratory results, doses, onset, and the risk by one or some models."""
        from flowsheet.api import plot

        return plot.stay(self, risk)

    def _repr_html_(self) -> str:
        facts = {"events": self.events.height, "treatments": self.treatments.height}
        return describe(f"Stay {self.stay_id}", facts, self.tables.stays)


def ingest(cohort: str | CohortConfig, path: str | Path | None = None, **options: Any) -> Extract:
    """Read and validate a cohort's records; unchanged records are not read again.

    Args:
        cohort: a choice (``flowsheet ls cohorts``), or its configuration.
        path: where the records are, for sources that need a path.
        options: of the source, such as ``stays=200`` for a simulated ward.

    Raises:
        UsageError: a choice or option is unknown.
        CheckFailed: the records cannot be read, or break the contract.

    Examples:
        >>> import flowsheet as fs
        >>> ward = fs.ingest("simulated_small", stays=60)
        >>> ward.manifest.counts["stays"]
        60
    """
    config = cohort if isinstance(cohort, CohortConfig) else compose_cohort(cohort)
    values = config.model_dump()
    values["options"] |= options
    if path is not None:
        values["path"] = str(absolute_location(str(path)))
    config = validate_config(CohortConfig, values, where=f"cohort {config.name}")
    return _open_ingested(config)


def cohort(experiment: ExperimentConfig | CohortConfig | str) -> Extract:
    """The cohort of an experiment, read and validated.

    Examples:
        >>> import flowsheet as fs
        >>> config = fs.experiment("demo", "cohort.options.stays=60", cohort="simulated_small")
        >>> fs.cohort(config).manifest.counts["stays"]
        60
    """
    config = experiment.cohort if isinstance(experiment, ExperimentConfig) else experiment
    return ingest(config)


def _open_ingested(config: CohortConfig) -> Extract:
    return Extract(open_extract(ingest_cohort(config, report)).path)


def as_tables(data: object) -> Tables:
    """The tables of an extract (or its folder), or of a stay.

    Raises:
        CheckFailed: it is none of these.
    """
    if isinstance(data, str | Path):
        data = Extract(data)
    if isinstance(data, Tables):
        return data
    if isinstance(data, Extract):
        return data.tables()
    if isinstance(data, Stay):
        return data.tables
    what = f"predictions need an extract or a stay, not {type(data).__name__}"
    raise CheckFailed(what, todo="give fs.Extract(FOLDER), its folder, or extract.stay(ID)")
