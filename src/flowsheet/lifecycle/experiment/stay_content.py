"""Digests of the records of each stay, by which a later extract's unchanged stays are found."""

from __future__ import annotations

from functools import lru_cache, reduce
from pathlib import Path

import polars as pl

from flowsheet.cohort.extract import Extract
from flowsheet.cohort.schema import TABLES

CONTENT = "content"
"""Column of the digests, 64 bits each: that of changed records is the same as before once in 2**64
times. They depend on the release of polars, and may depend on the processor."""


def digest_stays(extract: Extract) -> pl.DataFrame:
    """``stay_id`` and ``CONTENT`` of every stay: a digest of its rows in all tables, in any order.

    Each row has a hash, and those of a stay are added up.
    """
    return _digest(extract.path, extract.fingerprint)


@lru_cache(4)
def _digest(folder: Path, fingerprint: str) -> pl.DataFrame:
    tables = [pl.scan_parquet(folder / f"{table}.parquet", glob=False) for table in TABLES]
    hashes = [_hash_rows(rows, seed) for seed, rows in enumerate(tables)]
    return pl.concat(hashes).group_by("stay_id").agg(pl.sum(CONTENT)).collect(engine="streaming")


def _hash_rows(rows: pl.LazyFrame, seed: int) -> pl.LazyFrame:
    """A hash of each row. One of a struct of its columns takes three times as long."""
    schema = rows.collect_schema()
    signs = [1 / pl.col(name) for name, dtype in schema.items() if dtype.is_float()]  # of 0 and -0
    hashes = [column.hash(seed) for column in (*map(pl.col, schema), *signs)]
    content = reduce(lambda row, column: row.xor(column).hash(seed), hashes)
    return rows.select("stay_id", content.alias(CONTENT))
