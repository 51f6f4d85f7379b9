"""Digests of the records of each stay, by which a later extract's unchanged stays are found."""

from __future__ import annotations

import polars as pl

from flowsheet.cohort.extract import Extract
from flowsheet.cohort.schema import TABLES

CONTENT: tuple[str, str] = ("content_a", "content_b")
"""Columns of a digest, 64 bits each. They depend on the release of polars and on the processor: two
stays with other records have other digests, but the same records may have others elsewhere."""


def digest_stays(extract: Extract) -> pl.DataFrame:
    """``stay_id`` and ``CONTENT`` of every stay: a digest of its rows in all tables, in any order.

    Each row has a hash, and those of a stay are added up.
    """
    hashes = [_hash_rows(extract.scan(table), seed) for seed, table in enumerate(TABLES)]
    digests = pl.concat(hashes).group_by("stay_id").agg(pl.sum(*CONTENT))
    return digests.collect(engine="streaming")


def _hash_rows(rows: pl.LazyFrame, seed: int) -> pl.LazyFrame:
    schema = rows.collect_schema()
    floats = [name for name, dtype in schema.items() if dtype.is_float()]
    signs = [(1 / pl.col(name)).alias(f"1/{name}") for name in floats]  # of 0 and -0
    row = pl.struct(pl.all(), *signs).hash(seed)
    columns = {name: row.hash(i) for i, name in enumerate(CONTENT)}
    return rows.select("stay_id", **columns)
