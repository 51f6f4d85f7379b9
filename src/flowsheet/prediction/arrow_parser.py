"""The fast path: the tables of many JSON bodies, parsed in one pass while nothing is unusual.

Arrow parses all bodies by the contract's schema, without a Python object for each value. Bodies
that it does not accept, and bodies that break a rule, are left to ``json_parser`` and
``request_batch``, which parse one body at a time and report what is wrong with it.
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
from flowsheet.prediction.request_batch import UNKNOWN_STAY, RequestBatch
from flowsheet.prediction.request_checks import check_tables, reject_too_long
from flowsheet.typing import Ints

_ARROW_TYPES = {
    pl.Int64(): pa.int64(),
    pl.Float64(): pa.float64(),
    pl.String(): pa.string(),
    pl.Boolean(): pa.bool_(),
    TIME: pa.string(),
}
_SCHEMA = pa.schema(
    (table, pa.list_(pa.struct([(name, _ARROW_TYPES[kind]) for name, kind in columns.items()])))
    for table, columns in TABLES.items()
)
_SEPARATOR = b'\n{"stays":[]}\n'
"""Stands between two bodies, so that no body can run into the next one.

No place within a body can absorb it: a table's name is a key at the top level only, and a line
break ends no text. So each body is parsed on its own, whatever the others contain."""

_MAX_BYTES, _MAX_RECORDS = 4_000_000, 100_000
"""Bodies that are together larger, or hold more records, are parsed one by one: Arrow allocates
every column of every record, so that a body of nothing but empty records would take it long."""


def parse_batch(
    bodies: Sequence[bytes], limits: Limits, step_hours: float, response: str | None = None
) -> RequestBatch | None:
    """Parse bodies in one pass.

    Args:
        bodies: JSON bodies, at least one.
        limits: how much one request may ask for.
        step_hours: length of the model's step, in hours.
        response: that the model predicts, besides the registered ones.

    Returns:
        Their batch, or None if any of them has to be parsed on its own.
    """
    lists = _read_lists(bodies)
    if lists is None:
        return None
    # Every second list belongs to a separator.
    row_counts = {
        table: np.diff(lists[table].offsets.to_numpy())[::2].astype(np.int64) for table in TABLES
    }
    if _is_over_limits(row_counts, limits):
        return None
    records = {table: lists[table].flatten() for table in TABLES}
    numbers = _number_stays(records, row_counts)
    if numbers is None:
        return None
    text_tables = {table: _text_table(table, records[table], numbers[table]) for table in TABLES}
    tables, failures = check_tables(text_tables, limits, step_hours, response)
    stay_counts = row_counts["stays"].tolist()
    if (
        tables is None
        or failures.height
        or reject_too_long(stay_counts, tables, limits, step_hours)
    ):
        return None
    stay_ids = records["stays"].field("stay_id").to_pylist()
    subject_ids = records["stays"].field("subject_id").to_pylist()
    bounds = [0, *np.cumsum(stay_counts).tolist()]
    return RequestBatch(
        tables,
        stay_ids=[stay_ids[start:stop] for start, stop in pairwise(bounds)],
        first_stays=bounds[:-1],
        row_counts=np.sum(list(row_counts.values()), axis=0).tolist(),
        subject_ids=[subject_ids[start:stop] for start, stop in pairwise(bounds)],
    )


def _read_lists(bodies: Sequence[bytes]) -> dict[str, pa.ListArray] | None:
    """For each table a list of records for each body and each separator between two bodies."""
    text = _SEPARATOR.join(bodies)
    if len(text) > _MAX_BYTES or text.count(b"{") > _MAX_RECORDS:
        return None
    # Escapes and letters beyond ASCII need a parser that is strict about them.
    if not text.isascii() or b"\\" in text or not all(body.startswith(b"{") for body in bodies):
        return None
    try:
        rows = json.read_json(
            pa.BufferReader(text),
            read_options=json.ReadOptions(use_threads=False, block_size=len(text) + 1),
            parse_options=json.ParseOptions(
                explicit_schema=_SCHEMA, unexpected_field_behavior="error"
            ),
        )
    except pa.ArrowException:
        return None
    # Each body begins an object: with one row more than these, some body holds two objects.
    if rows.num_rows != 2 * len(bodies) - 1:
        return None
    return {table: rows[table].combine_chunks() for table in TABLES}


def _is_over_limits(row_counts: Mapping[str, Ints], limits: Limits) -> bool:
    stays = row_counts["stays"]
    rows = np.sum(list(row_counts.values()), axis=0)
    return bool(stays.min() == 0 or stays.max() > limits.stays or rows.max() > limits.rows)


def _number_stays(
    records: Mapping[str, pa.StructArray], row_counts: Mapping[str, Ints]
) -> dict[str, Ints] | None:
    """For each row the batch's number of its stay; None if an id is null or a stay is repeated.

    Args:
        records: {table: rows of all requests}; ``stay_id`` is the first field.
        row_counts: {table: rows of each request, shape (requests,)}.
    """
    columns = {table: rows.flatten()[0] for table, rows in records.items()}
    if any(ids.null_count for ids in columns.values()):
        return None
    ids_sent = {table: ids.to_numpy() for table, ids in columns.items()}
    ids, places = np.unique(ids_sent["stays"], return_inverse=True)

    def keys(table: str, places: Ints) -> Ints:
        """One number for each pair of request and stay id."""
        counts = row_counts[table]
        return np.repeat(np.arange(len(counts)), counts) * len(ids) + places

    stay_keys = keys("stays", places)
    order = np.argsort(stay_keys)
    sorted_keys = stay_keys[order]
    if (np.diff(sorted_keys) == 0).any():
        return None
    numbers = {"stays": np.arange(len(stay_keys))}
    for table in ids_sent.keys() - {"stays"}:
        places = np.minimum(np.searchsorted(ids, ids_sent[table]), len(ids) - 1)
        row_keys = keys(table, places)
        nearest = np.minimum(np.searchsorted(sorted_keys, row_keys), len(order) - 1)
        candidates = order[nearest]
        is_known = (ids[places] == ids_sent[table]) & (stay_keys[candidates] == row_keys)
        numbers[table] = np.where(is_known, candidates, UNKNOWN_STAY)
    return numbers


def _text_table(table: str, records: pa.StructArray, numbers: Ints) -> pl.DataFrame:
    """A table whose stays are numbered, times still as text."""
    if not len(records):
        return _empty_text_table(table)
    names = [field.name for field in records.type]
    rows = pl.from_arrow(pa.table(dict(zip(names, records.flatten(), strict=True))))
    assert isinstance(rows, pl.DataFrame)
    stay_id = pl.Series("stay_id", numbers)
    if "subject_id" in names:
        return rows.with_columns(stay_id, stay_id.alias("subject_id"))
    return rows.with_columns(stay_id)


@lru_cache
def _empty_text_table(table: str) -> pl.DataFrame:
    return pl.DataFrame(
        schema={name: pl.String() if kind == TIME else kind for name, kind in TABLES[table].items()}
    )
