"""Digests of the records of each stay, by which a later extract's unchanged stays are found.

They are computed while an extract is written, and kept beside its tables.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache, reduce
from pathlib import Path

import polars as pl

from flowsheet.cohort.extract import Extract
from flowsheet.cohort.remote_extracts import DIGESTS_FILE
from flowsheet.cohort.schema import TABLES, Tables
from flowsheet.state.hashing import file_digest

CONTENT = "content"
"""Column of the digests, 64 bits each: that of changed records is the same as before once in 2**64
times. They depend on the release of polars, and may depend on the processor."""
_RELEASE = "polars"
"""Key of the release in the metadata of the file."""


def digest_stays(extract: Extract) -> pl.DataFrame:
    """``stay_id`` and ``CONTENT`` of every stay: a digest of its rows in all tables, in any order.

    Each row has a hash, and those of a stay are added up.
    """
    file = extract.path / DIGESTS_FILE
    if _is_current(file, extract.manifest.files.get(DIGESTS_FILE)):
        return pl.read_parquet(file, glob=False)
    return _digest_tables(extract.path, extract.fingerprint)


@lru_cache(4)
def _digest_tables(folder: Path, fingerprint: str) -> pl.DataFrame:
    """The digests of an extract of another release; a run needs them twice."""
    tables = [pl.scan_parquet(folder / f"{table}.parquet", glob=False) for table in TABLES]
    return _add_up(map(_hash_rows, tables, range(len(tables)))).collect(engine="streaming")


def digest_batch(tables: Tables) -> pl.DataFrame:
    """The digests of the stays of some tables, of which no other tables have any rows."""
    rows = [
        getattr(tables, table).lazy().select(pl.col(name).cast(dtype) for name, dtype in schema)
        for table, schema in ((table, columns.items()) for table, columns in TABLES.items())
    ]
    return _add_up(map(_hash_rows, rows, range(len(rows)))).collect()


def write_digests(batches: Iterable[pl.DataFrame], folder: Path) -> None:
    """Write the digests of :func:`digest_batch` beside the tables of an extract."""
    none = pl.DataFrame(schema={"stay_id": pl.Int64, CONTENT: pl.UInt64})
    digests = pl.concat([none, *batches]).sort("stay_id")
    digests.write_parquet(folder / DIGESTS_FILE, metadata={_RELEASE: pl.__version__})


def _is_current(file: Path, sha256: str | None) -> bool:
    """Whether there are digests, as they were written, by this release of polars."""
    if sha256 is None or not file.is_file() or file_digest(file) != sha256:
        return False
    return pl.read_parquet_metadata(file).get(_RELEASE) == pl.__version__


def _add_up(hashes: Iterable[pl.LazyFrame]) -> pl.LazyFrame:
    return pl.concat(hashes).group_by("stay_id").agg(pl.sum(CONTENT))


def _hash_rows(rows: pl.LazyFrame, seed: int) -> pl.LazyFrame:
    """A hash of each row. One of a struct of its columns takes three times as long."""
    schema = rows.collect_schema()
    signs = [1 / pl.col(name) for name, dtype in schema.items() if dtype.is_float()]  # of 0 and -0
    hashes = [column.hash(seed) for column in (*map(pl.col, schema), *signs)]
    content = reduce(lambda row, column: row.xor(column).hash(seed), hashes)
    return rows.select("stay_id", content.alias(CONTENT))
