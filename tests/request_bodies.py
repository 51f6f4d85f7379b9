"""Requests to a served model, for tests: tables that keep the contract, and their JSON bodies."""

from __future__ import annotations

import random

import orjson
import polars as pl

from flowsheet.cohort.rules import find_row_failures
from flowsheet.cohort.schema import TABLES, TIME, Tables


def valid_ward(tables: Tables) -> Tables:
    """``ward_tables`` with plausible values and units, without rows that break a rule."""
    temperature = 37 + (pl.col("value") - 90) / 30
    value = pl.when(pl.col("variable") == "temp").then(temperature).otherwise("value")
    events = tables.events.with_columns(value.round(2).alias("value"))
    treatments = tables.treatments.with_columns(unit=pl.lit("mcg/kg"))
    episodes = tables.episodes.with_columns(response=pl.lit("sepsis"))
    return keep_valid_rows(Tables(tables.stays, events, treatments, episodes))


def keep_valid_rows(tables: Tables) -> Tables:
    """The rows that keep the contract, of stays that do."""
    valid = {}
    for name in TABLES:
        rows = getattr(tables, name)
        failing = find_row_failures(name, rows, tables.stays)["row"].unique() - 1
        numbered = rows.with_row_index("i")
        valid[name] = numbered.filter(~pl.col("i").is_in(failing.implode())).drop("i")
    return select_stays(Tables(**valid), *valid["stays"]["stay_id"])


def select_stays(tables: Tables, *stay_ids: int) -> Tables:
    selected = pl.col("stay_id").is_in(pl.Series(stay_ids, dtype=pl.Int64).implode())
    return Tables(*(getattr(tables, name).filter(selected) for name in TABLES))


def encode_body(tables: Tables, shuffle_seed: int | None = None) -> bytes:
    """The JSON body with each table as records; in random order if there is a seed."""
    return orjson.dumps({name: to_records(getattr(tables, name), shuffle_seed) for name in TABLES})


def to_records(rows: pl.DataFrame, shuffle_seed: int | None = None) -> list[dict]:
    """Rows as a client sends them: times as text, nulls left out."""
    records = []
    for row in times_as_text(rows).iter_rows(named=True):
        records.append({name: value for name, value in row.items() if value is not None})
    if shuffle_seed is not None:
        random.Random(shuffle_seed).shuffle(records)
    return records


def times_as_text(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(pl.col(TIME).dt.to_string("iso:strict"))


def decode_answer(reply) -> dict:
    """The answer to a request that was scored."""
    assert hasattr(reply, "steps"), reply.body
    return orjson.loads(reply.body)
