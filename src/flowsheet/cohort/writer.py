"""Writing of a cohort extract: batch by batch, reproducible to the byte, and atomic."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from flowsheet.cohort.extract import (
    QUARANTINE,
    Extract,
    Manifest,
    Provenance,
    TableEntry,
    fingerprint_of,
)
from flowsheet.cohort.prevalence import mark_episodes, prevalence
from flowsheet.cohort.remote_extracts import DIGESTS_FILE, ORACLE_FILE, QUARANTINE_FILE
from flowsheet.cohort.rules import is_sorted_unique
from flowsheet.cohort.schema import SORT_KEYS, TABLES, TIME, Tables
from flowsheet.cohort.stay_digests import digest_batch, write_digests
from flowsheet.cohort.time_grid import HOUR
from flowsheet.state.hashing import file_digest
from flowsheet.state.json_files import write_json
from flowsheet.state.publish import publish

_ARROW = {
    pl.Int64(): pa.int64(),
    pl.Float64(): pa.float64(),
    pl.String(): pa.string(),
    pl.Boolean(): pa.bool_(),
    pl.Datetime("us"): pa.timestamp("us"),
}


class ExtractWriter:
    """Writes an extract batch by batch into a folder that is not yet published.

    Batches must come in ascending order of stays; only one is in memory. The bytes of the files
    depend only on the rows and on how they are divided into batches; those of the digests of the
    stays also on the release of polars.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files = ExitStack()
        self._writers: dict[str, pq.ParquetWriter] = {}
        self._counts = dict.fromkeys(
            ("stays", "events", "treatments", "episodes", "stays_with_episode"), 0
        )
        self._hours = 0.0
        self._subjects: list[pl.Series] = []
        self._stays: list[pl.DataFrame] = []
        self._digests: list[pl.DataFrame] = []
        self._responses: set[str] = set()

    def __enter__(self) -> ExtractWriter:
        for table, columns in TABLES.items():
            self._open(table, columns)
        return self

    def __exit__(self, *exc: object) -> None:
        self._files.close()

    def add(self, tables: Tables) -> None:
        """Write the tables of further stays; rows must be sorted as the contract requires."""
        for table in TABLES:
            frame: pl.DataFrame = getattr(tables, table)
            self._write(table, frame)
            self._counts[table] += frame.height
        self._counts["stays_with_episode"] += tables.episodes["stay_id"].n_unique()
        self._hours += observed_hours(tables.stays)
        self._subjects.append(tables.stays["subject_id"].unique())
        self._stays.append(mark_episodes(tables.stays, tables.episodes))
        self._digests.append(digest_batch(tables))
        self._responses |= set(tables.episodes["response"].unique())

    def add_quarantined(self, rows: pl.DataFrame) -> None:
        """Write quarantined rows; columns as in ``QUARANTINE``."""
        if rows.is_empty():
            return
        if "quarantine" not in self._writers:
            self._open("quarantine", QUARANTINE)
        self._write("quarantine", rows)

    def add_oracle(self, oracle: pl.DataFrame) -> None:
        """Write the true probabilities of a simulated ward, in a folder beside the tables."""
        (self.folder / "oracle").mkdir()
        with (self.folder / "oracle" / "oracle.parquet").open("wb") as stream:
            pq.write_table(oracle.to_arrow(), stream, compression="zstd")

    def finish(self, provenance: Provenance) -> Manifest:
        """Close the files, then write the manifest."""
        self._files.close()
        files = {name: self.folder / f"{name}.parquet" for name in TABLES}
        tables = {
            name: TableEntry(rows=self._counts[name], sha256=file_digest(file))
            for name, file in files.items()
        }
        write_digests(self._digests, self.folder)
        further = [self.folder / name for name in (QUARANTINE_FILE, ORACLE_FILE, DIGESTS_FILE)]
        subjects = pl.concat(self._subjects).n_unique() if self._subjects else 0
        responses = tuple(sorted({*provenance.responses, *self._responses}))
        manifest = Manifest(
            **(dict(provenance) | {"responses": responses}),
            fingerprint=fingerprint_of(tables),
            tables=tables,
            counts={"subjects": subjects, **self._counts, "hours": round(self._hours)},
            files={
                str(file.relative_to(self.folder)): file_digest(file)
                for file in further
                if file.is_file()
            },
            prevalence=prevalence(self._stays, responses),
        )
        write_json(self.folder / "manifest.json", manifest.model_dump(mode="json"))
        return manifest

    def _open(self, name: str, columns: dict[str, pl.DataType]) -> None:
        stream = self._files.enter_context((self.folder / f"{name}.parquet").open("wb"))
        schema = pa.schema([(column, _ARROW[dtype]) for column, dtype in columns.items()])
        # Times seldom repeat, so a dictionary of them would only cost space.
        repeating = [column for column, dtype in columns.items() if dtype != TIME]
        writer = pq.ParquetWriter(
            stream,
            schema,
            compression="zstd",
            store_schema=False,
            use_dictionary=repeating,
            write_statistics=["stay_id"],  # the only column by which row groups can be skipped
        )
        self._writers[name] = self._files.enter_context(writer)

    def _write(self, name: str, frame: pl.DataFrame) -> None:
        if frame.height:
            self._writers[name].write_table(
                frame.to_arrow().cast(self._writers[name].schema), row_group_size=frame.height
            )


def write_extract(tables: Tables, target: Path, provenance: Provenance) -> Extract:
    """Write tables as an extract without validation; for raw records use ``ingest``.

    Raises:
        FlowsheetError: the disk is full or not writable.
    """
    ordered = Tables(**{table: sort_rows(table, getattr(tables, table)) for table in TABLES})
    with publish(target) as folder, ExtractWriter(folder) as writer:
        writer.add(ordered)
        manifest = writer.finish(provenance)
    return Extract(target, manifest)


def sort_rows(table: str, frame: pl.DataFrame) -> pl.DataFrame:
    """Sort rows by the contract's sort keys; the other columns break ties."""
    if is_sorted_unique(table, frame):
        return frame
    rest = [column for column in TABLES[table] if column not in SORT_KEYS[table]]
    return frame.sort([*SORT_KEYS[table], *rest])


def observed_hours(stays: pl.DataFrame) -> float:
    """The total of the hours from the beginning of each record to its end."""
    observed_from = pl.coalesce("observed_from", "admitted_at")
    microseconds = (pl.col("discharged_at") - observed_from).dt.total_microseconds()
    return float(stays.select((microseconds / HOUR).sum()).item())
