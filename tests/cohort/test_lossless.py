"""Columns of other programs become the contract's without loss or are refused, at every door."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from flowsheet.cohort.extract import check_extract
from flowsheet.cohort.ingest import ingest
from flowsheet.cohort.lossless import cast_lossless
from flowsheet.cohort.schema import TABLES, TIME
from flowsheet.cohort.sources.extract import ExtractFolder, ExtractOptions
from flowsheet.config import CohortConfig, Policy, QuarantineConfig, validate_config
from flowsheet.errors import CheckFailed, UsageError
from flowsheet.testing.tables import make_tables

NOON = datetime(2150, 1, 1, 12)
OwnTables = dict[str, pl.DataFrame]


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        (pl.Series([1, 2], dtype=pl.Int16), pl.Int64(), [1, 2]),
        (pl.Series([1.0, float("nan"), None]), pl.Int64(), [1, None, None]),
        (pl.Series([2**63], dtype=pl.UInt64), pl.Int64(), None),
        (pl.Series([1.1]), pl.Int64(), None),
        (pl.Series(["1"]), pl.Int64(), None),
        (pl.Series([True]), pl.Int64(), None),
        (pl.Series([1, 2]), pl.Float64(), [1.0, 2.0]),
        (pl.Series([2**60]), pl.Float64(), None),
        (pl.Series(["7.5"]), pl.Float64(), None),
        (pl.Series([True]), pl.Float64(), None),
        (pl.Series(["a"], dtype=pl.Categorical), pl.String(), ["a"]),
        (pl.Series([7]), pl.String(), ["7"]),
        (pl.Series([7.0]), pl.String(), None),
        (pl.Series([NOON]), pl.String(), None),
        (pl.Series([0, 1]), pl.Boolean(), [False, True]),
        (pl.Series([2]), pl.Boolean(), None),
        (pl.Series([NOON]).dt.cast_time_unit("ms"), TIME, [NOON]),
        (pl.Series([NOON]).dt.cast_time_unit("ns"), TIME, [NOON]),
        (pl.Series([1]).cast(pl.Datetime("ns")), TIME, None),
        (pl.Series([NOON.date()]), TIME, None),
        (pl.Series([NOON]).dt.epoch("s"), TIME, None),
        (pl.Series([12.5]), TIME, None),
        (pl.Series([NOON]).dt.replace_time_zone("UTC"), TIME, None),
        (pl.Series(["2150-01-01 12:00:00"]), TIME, None),
        (pl.Series([None], dtype=pl.Null), TIME, [None]),
    ],
)
def test_values_are_cast_without_loss_or_not_at_all(
    values: pl.Series, dtype: pl.DataType, expected: list[object] | None
) -> None:
    cast, problem = cast_lossless(values, dtype)
    assert cast.dtype == dtype
    if expected is None:
        assert "not" in problem
    else:
        assert not problem
        assert cast.to_list() == expected


def test_zoned_times_become_local_times_of_the_declared_zone() -> None:
    times = pl.Series([datetime(2020, 7, 1, 12)]).dt.replace_time_zone("UTC")
    cast, problem = cast_lossless(times, TIME, "Europe/Berlin")
    assert (cast.to_list(), problem) == ([datetime(2020, 7, 1, 14)], "")
    with pytest.raises(UsageError, match="no time zone 'Berlin'"):
        validate_config(ExtractOptions, {"time_zone": "Berlin"}, "test")


def own_tables() -> OwnTables:
    tables = make_tables(
        stays=[
            {"stay_id": i, "subject_id": i, "discharged_at": 30, "age": 50.0, "sex": "M"}
            for i in range(1, 4)
        ],
        events=[
            {"stay_id": i, "time": h, "variable": "hr", "value": 80.0}
            for i in range(1, 4)
            for h in range(1, 5)
        ],
        treatments=[
            {"stay_id": 1, "drug": "insulin", "start": 3, "end": 5, "dose": 4.0, "unit": "U"}
        ],
        episodes=[{"stay_id": 2, "onset": 5, "end": 9, "known_at": 11}],
    )
    return {table: getattr(tables, table) for table in TABLES}


def _change(table: str, *columns: pl.Expr) -> Callable[[OwnTables], None]:
    def change(tables: OwnTables) -> None:
        if table in tables and set(columns[0].meta.root_names()) <= set(tables[table].columns):
            tables[table] = tables[table].with_columns(columns)

    return change


def _replace(table: str, edit: Callable[[pl.DataFrame], pl.DataFrame]) -> Callable[..., None]:
    def change(tables: OwnTables) -> None:
        if table in tables:
            tables[table] = edit(tables[table])

    return change


_TIMES = pl.col(TIME)
_is_first = pl.int_range(pl.len()) == 0
CHANGES: dict[str, Callable[[OwnTables], object]] = {
    "zoned events": _change("events", _TIMES.dt.replace_time_zone("Europe/Berlin")),
    "zoned known_at": _change("events", pl.col("known_at").cast(pl.Datetime("us", "UTC"))),
    "epoch": _change("stays", _TIMES.dt.epoch("s")),
    "dates": _change("stays", _TIMES.dt.date()),
    "texts": _change("events", _TIMES.cast(pl.String)),
    "nanoseconds": _change("events", _TIMES.cast(pl.Datetime("ns"))),
    "float ids": _change("stays", pl.col("stay_id", "subject_id").cast(pl.Float64)),
    "subject 1.1": _change("stays", pl.col("subject_id") / 10),
    "text ids": _change("stays", pl.col("subject_id").cast(pl.String)),
    "small ids": _change("events", pl.col("stay_id").cast(pl.Int16)),
    "text values": _change("events", pl.col("value").cast(pl.String)),
    "whole values": _change("events", pl.col("value").cast(pl.Int32, strict=False)),
    "categories": _change("events", pl.col("variable").cast(pl.Categorical)),
    "no sites": _replace("stays", lambda f: f.drop("site", strict=False)),
    "no ages": _replace("stays", lambda f: f.drop("age", strict=False)),
    "untyped": _change("stays", pl.lit(None).alias("height_cm")),
    "extra column": _change("events", pl.lit(1).alias("ward")),
    "reversed": _replace("events", lambda f: f.reverse()),
    "shuffled columns": _replace("events", lambda f: f.select(sorted(f.columns))),
    "no treatments": lambda tables: tables.pop("treatments", None),
    "no episodes": lambda tables: tables.pop("episodes", None),
    "no events": lambda tables: tables.pop("events", None),
    "events without rows": _replace("events", lambda f: f.clear()),
    "stays without rows": _replace("stays", lambda f: f.clear()),
    "episodes without rows": _replace("episodes", lambda f: f.clear()),
    "treatments without rows": _replace("treatments", lambda f: f.clear()),
    "no vital sign": _change("events", pl.lit("lact").alias("variable")),
    "a stay less": _replace("stays", lambda f: f[1:]),
    "stay twice": _replace("stays", lambda f: pl.concat([f, f[:1]])),
    "event twice": _replace("events", lambda f: pl.concat([f, f[:1]])),
    "sex": _change("stays", pl.lit("Female").alias("sex")),
    "unknown variable": _change("events", pl.lit("heart rate").alias("variable")),
    "empty cell": _replace(
        "events", lambda f: f.with_columns(pl.when(~_is_first).then("value").alias("value"))
    ),
}


def test_a_stay_with_too_many_rows_is_named(tmp_path: Path) -> None:
    for table, frame in own_tables().items():
        frame.write_parquet(tmp_path / f"{table}.parquet")
    config = CohortConfig(name="own", source="extract", max_rows_per_stay=3)
    source = ExtractFolder(tmp_path, ExtractOptions())
    with pytest.raises(CheckFailed, match="a stay has 4 rows of events, more than 3"):
        ingest(source, config, tmp_path / "extract", lambda line: None)


@given(names=st.lists(st.sampled_from(sorted(CHANGES)), max_size=3, unique=True))
@example(names=[])
@settings(
    max_examples=35, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_ingest_and_validate_agree_about_the_same_folder(tmp_path: Path, names: list[str]) -> None:
    folder = tmp_path / "own"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    tables = own_tables()
    for name in names:
        CHANGES[name](tables)
    for table, frame in tables.items():
        frame.write_parquet(folder / f"{table}.parquet")
    is_valid = check_extract(folder).is_empty()
    config = CohortConfig(
        name="own", source="extract", quarantine=QuarantineConfig(default=Policy.reject)
    )
    try:
        source = ExtractFolder(folder, ExtractOptions())
        ingest(source, config, tmp_path / "extract", lambda line: None)
        is_ingested = True
    except CheckFailed:
        is_ingested = False
    assert is_valid == is_ingested
