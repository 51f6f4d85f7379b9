from __future__ import annotations

import random
from datetime import UTC, datetime

import orjson
import polars as pl
import pytest

from flowsheet.cohort.rules import find_row_failures
from flowsheet.cohort.schema import TABLES, TIME, Tables
from flowsheet.prediction.limits import Limits
from flowsheet.serving.model_slot import Loaded
from flowsheet.serving.scorer import Scorer
from flowsheet.serving.service import Service
from flowsheet.serving.settings import ServeConfig
from tests.model_packages import fit_model_package, ward_tables


@pytest.fixture(scope="session")
def ward():
    """Forty stays that keep the contract."""
    return kept(ward_tables())


@pytest.fixture(scope="session")
def model_package(ward, tmp_path_factory):
    return fit_model_package(
        tmp_path_factory.mktemp("model_package"), "lstm", ward, epochs=1, hidden=8, embedding=4
    )


@pytest.fixture(scope="session")
def rival(ward, tmp_path_factory):
    return fit_model_package(
        tmp_path_factory.mktemp("rival"), "logistic_regression", ward, "r" * 64
    )


@pytest.fixture
def loaded(model_package):
    return Loaded("ward-lstm", 3, "champion", model_package, datetime(2000, 1, 1, tzinfo=UTC))


@pytest.fixture
def scorer(loaded):
    return Scorer(lambda: loaded, Limits())


@pytest.fixture
def service(loaded):
    """A service whose champion did not come from a registry."""
    held = Service(
        ServeConfig(name="ward-lstm", poll_seconds=3600, limits=Limits(body_bytes=200_000))
    )
    held.champion.current = loaded
    return held


def kept(tables: Tables) -> Tables:
    """The tables with values and units that the contract takes, without rows that break a rule."""
    warm = (
        pl.when(pl.col("variable") == "temp")
        .then(37 + (pl.col("value") - 90) / 30)
        .otherwise("value")
    )
    events = tables.events.with_columns(warm.round(2).alias("value"))
    return sound(
        Tables(
            tables.stays,
            events,
            tables.treatments.with_columns(unit=pl.lit("mcg/kg")),
            tables.episodes,
        )
    )


def sound(tables: Tables) -> Tables:
    """The rows that keep the contract."""
    whole = {}
    for name in TABLES:
        frame = getattr(tables, name)
        broken = find_row_failures(name, frame, tables.stays)["row"].unique() - 1
        whole[name] = (
            frame.with_row_index("i").filter(~pl.col("i").is_in(broken.implode())).drop("i")
        )
    stays = whole["stays"]["stay_id"].implode()
    return Tables(
        **{name: frame.filter(pl.col("stay_id").is_in(stays)) for name, frame in whole.items()}
    )


def records(frame: pl.DataFrame, seed: int | None = None) -> list[dict]:
    """Rows as a client sends them: times as text, nulls left out; shuffled with a seed."""
    rows = [
        {k: v for k, v in row.items() if v is not None} for row in text(frame).iter_rows(named=True)
    ]
    if seed is not None:
        random.Random(seed).shuffle(rows)
    return rows


def text(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pl.col(TIME).dt.to_string("iso:strict"))


def body(tables: Tables, seed: int | None = None) -> bytes:
    return orjson.dumps({name: records(getattr(tables, name), seed) for name in TABLES})


def of_stays(tables: Tables, *stays: int) -> Tables:
    return Tables(
        *(getattr(tables, name).filter(pl.col("stay_id").is_in(stays)) for name in TABLES)
    )


def answered(outcome) -> dict:
    assert hasattr(outcome, "steps"), outcome.body
    return orjson.loads(outcome.body)


class Help:
    """The functions above, for tests in other modules."""

    body = staticmethod(body)
    sound = staticmethod(sound)
    records = staticmethod(records)
    text = staticmethod(text)
    of_stays = staticmethod(of_stays)
    answered = staticmethod(answered)


@pytest.fixture(scope="session")
def tell():
    return Help
