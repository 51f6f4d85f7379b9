"""The tables of a batch of request bodies, read in one pass as long as nothing about them is
unusual.

Arrow reads all bodies by the contract's schema, without a Python object for a value. Whatever it
does not accept, and whatever breaks a rule, is left to ``request_parser`` and ``request_batch``,
which take one body at a time and report what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
import polars as pl
import pyarrow as pa
from pyarrow import json

from flowsheet.cohort.schema import TABLES, TIME
from flowsheet.prediction.limits import Limits
from flowsheet.prediction.request_batch import (
    UNKNOWN_STAY,
    Batch,
    check,
    too_long,
)
from flowsheet.typing import Ints

_KINDS = {
    pl.Int64(): pa.int64(),
    pl.Float64(): pa.float64(),
    pl.String(): pa.string(),
    TIME: pa.string(),
}
_SCHEMA = pa.schema(
    (table, pa.list_(pa.struct([(name, _KINDS[kind]) for name, kind in columns.items()])))
    for table, columns in TABLES.items()
)
_BETWEEN = b'\n{"stays":[]}\n'
"""Stands between two bodies. No place within a body can take it in: a table's name is a key at the
top only, and a line break ends no text. So whatever a body holds, the bodies after it are read for
themselves."""

_BYTES, _RECORDS = 4_000_000, 100_000
"""Bodies that are together larger than this, or hold more records, are read one by one: Arrow has
room for every column of every record, so that a body of nothing but empty ones would take it
long."""


def at_once(bodies: Sequence[bytes], limits: Limits, step_hours: float) -> Batch | None:
    """The batch of these bodies; None when they have to be read one by one."""
    told = _read(bodies)
    if told is None:
        return None
    rows = {
        table: np.diff(told[table].offsets.to_numpy())[::2].astype(np.int64) for table in TABLES
    }
    stays, together = rows["stays"], np.sum(list(rows.values()), axis=0)
    if stays.min() == 0 or stays.max() > limits.stays or together.max() > limits.rows:
        return None
    facts = {table: told[table].flatten() for table in TABLES}
    numbers = _numbered(facts, rows)
    if numbers is None:
        return None
    text = {
        table: _frame(facts[table], numbers[table]) if len(facts[table]) else _nothing(table)
        for table in TABLES
    }
    tables, failures = check(text, limits, step_hours)
    if tables is None or failures.height or too_long(stays.tolist(), tables, limits, step_hours):
        return None
    ids = facts["stays"].field("stay_id").to_pylist()
    cuts = np.append(0, np.cumsum(stays)).tolist()
    return Batch(
        tables, [ids[low:high] for low, high in pairwise(cuts)], cuts[:-1], together.tolist()
    )


def _read(bodies: Sequence[bytes]) -> dict[str, pa.ListArray] | None:
    """For each table a list of records for each body and each ``_BETWEEN``."""
    text = _BETWEEN.join(bodies)
    if len(text) > _BYTES or text.count(b"{") > _RECORDS:
        return None
    # Escapes and letters beyond ASCII need a reader that is strict about them.
    if not text.isascii() or b"\\" in text or not all(body.startswith(b"{") for body in bodies):
        return None
    try:
        told = json.read_json(
            pa.BufferReader(text),
            read_options=json.ReadOptions(use_threads=False, block_size=len(text) + 1),
            parse_options=json.ParseOptions(
                explicit_schema=_SCHEMA, unexpected_field_behavior="error"
            ),
        )
    except pa.ArrowException:
        return None
    # Each body begins an object of its own: with one row more than these, some body holds two.
    if told.num_rows != 2 * len(bodies) - 1:
        return None
    return {table: told[table].combine_chunks() for table in TABLES}


def _numbered(
    facts: Mapping[str, pa.StructArray], rows: Mapping[str, Ints]
) -> dict[str, Ints] | None:
    """For each row the batch's number of its stay; None when a row names none, or a stay is told twice."""
    if any(told.flatten()[0].null_count for told in facts.values()):
        return None
    sent = {table: told.flatten()[0].to_numpy() for table, told in facts.items()}
    names, place = np.unique(sent["stays"], return_inverse=True)

    def keys(table: str, place: Ints) -> Ints:
        return np.repeat(np.arange(len(rows[table])), rows[table]) * len(names) + place

    known = keys("stays", place)
    order = np.argsort(known)
    if (np.diff(known[order]) == 0).any():
        return None
    numbers = {"stays": np.arange(len(known))}
    for table in sent.keys() - {"stays"}:
        at = np.minimum(np.searchsorted(names, sent[table]), len(names) - 1)
        asked = keys(table, at)
        found = order[np.minimum(np.searchsorted(known[order], asked), len(order) - 1)]
        right = (names[at] == sent[table]) & (known[found] == asked)
        numbers[table] = np.where(right, found, UNKNOWN_STAY)
    return numbers


@lru_cache
def _nothing(table: str) -> pl.DataFrame:
    return pl.DataFrame(
        schema={name: pl.String() if kind == TIME else kind for name, kind in TABLES[table].items()}
    )


def _frame(told: pa.StructArray, stay: Ints) -> pl.DataFrame:
    """A table whose stays are numbered, times still as text."""
    columns = dict(zip((field.name for field in told.type), told.flatten(), strict=True))
    frame = pl.from_arrow(pa.table(columns))
    assert isinstance(frame, pl.DataFrame)
    numbers = pl.Series("stay_id", stay)
    return frame.with_columns(
        numbers, *([numbers.alias("subject_id")] if "subject_id" in columns else [])
    )
