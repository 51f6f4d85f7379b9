"""Damaged stays are quarantined alone; files that are not a cohort are refused."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from flowsheet.cohort.schema import EPOCH
from flowsheet.errors import CheckFailed
from flowsheet.testing import yaib
from tests.cohort.sources.yaib.conftest import (
    change_columns,
    change_row,
    drop_column,
    keep_rows,
    repeat_row,
    run_ingest,
)

Damage = Callable[[yaib.Frames], yaib.Frames]
ROW = 3  # hour 3 of stay 11
IS_OTHER_STAY = pl.col("stay_id") != 11
IS_OTHER_HOUR = pl.col("time") != timedelta(hours=3)


def set_numeric_label(frames: yaib.Frames, value: float) -> yaib.Frames:
    frames = change_columns(frames, "outc", label=pl.col("label").cast(pl.Float64))
    return change_row(frames, "outc", ROW, label=value)


DEFECTS: dict[str, tuple[Damage, str, str]] = {
    "label is 2": (
        lambda frames: set_numeric_label(frames, 2.0),
        "label",
        "outc.parquet stay 11, hour 3.0",
    ),
    "label is null": (
        lambda frames: change_row(frames, "outc", ROW, label=None),
        "label",
        "outc.parquet stay 11, hour 3.0",
    ),
    "label is NaN": (
        lambda frames: set_numeric_label(frames, float("nan")),
        "label",
        "outc.parquet stay 11, hour 3.0",
    ),
    "label returns": (
        lambda frames: change_row(frames, "outc", ROW, label=True),
        "label_returns",
        "outc.parquet stay 11, hour 4.0",
    ),
    "hour is a fraction": (
        lambda frames: change_row(frames, "dyn", ROW, time=timedelta(hours=3.5)),
        "hour_number",
        "dyn.parquet stay 11, hour 3.5",
    ),
    "hour is negative": (
        lambda frames: change_row(frames, "outc", 0, time=timedelta(hours=-1)),
        "hour_number",
        "outc.parquet stay 11, hour -1.0",
    ),
    "hour is null": (
        lambda frames: change_row(frames, "dyn", ROW, time=None),
        "hour_number",
        "dyn.parquet stay 11",
    ),
    "hour is repeated in dyn": (
        lambda frames: repeat_row(frames, "dyn", ROW),
        "duplicate_hour",
        "dyn.parquet stay 11, hour 3.0",
    ),
    "hour is repeated in outc": (
        lambda frames: repeat_row(frames, "outc", ROW),
        "duplicate_hour",
        "outc.parquet stay 11, hour 3.0",
    ),
    "hour is missing": (
        lambda frames: keep_rows(frames, "outc", IS_OTHER_STAY | IS_OTHER_HOUR),
        "missing_hour",
        "outc.parquet stay 11, hour 4.0",
    ),
    "labels end early": (
        lambda frames: keep_rows(
            frames, "outc", IS_OTHER_STAY | (pl.col("time") < timedelta(hours=9))
        ),
        "same_hours",
        "dyn.parquet stay 11, hour 0.0",
    ),
    "missing in sta": (
        lambda frames: keep_rows(frames, "sta", IS_OTHER_STAY),
        "in_every_file",
        "sta.parquet stay 11",
    ),
    "missing in dyn": (
        lambda frames: keep_rows(frames, "dyn", IS_OTHER_STAY),
        "in_every_file",
        "dyn.parquet stay 11",
    ),
    "missing in outc": (
        lambda frames: keep_rows(frames, "outc", IS_OTHER_STAY),
        "in_every_file",
        "outc.parquet stay 11",
    ),
    "repeated in sta": (
        lambda frames: repeat_row(frames, "sta", 0),
        "duplicate_stay",
        "sta.parquet stay 11",
    ),
    "unknown sex": (
        lambda frames: change_row(frames, "sta", 0, sex="Klingon"),
        "known_sex",
        "stay 11",
    ),
    "age of 400": (
        lambda frames: change_row(frames, "sta", 0, age=400.0),
        "plausible_range",
        "stay 11",
    ),
}


@pytest.mark.parametrize("case", DEFECTS)
def test_a_damaged_stay_is_named_and_quarantined_alone(tmp_path: Path, case: str):
    damage, rule, key = DEFECTS[case]
    raw = yaib.write_frames(tmp_path / "raw", damage(yaib.make_frames()))
    extract = run_ingest(raw, tmp_path / "out")
    quarantined = pl.read_parquet(extract.path / "quarantine.parquet").filter(rule=rule)
    assert quarantined.select("table", "key").rows() == [("stays", key)]
    tables = extract.tables()
    assert tables.stays["stay_id"].to_list() == [12, 13, 14]
    assert set(tables.events["stay_id"]) == {12, 13, 14}
    with pytest.raises(CheckFailed, match=rule):
        run_ingest(raw, tmp_path / "strict", max_share=0.02)


TEXT = pl.lit("x")
REFUSED: dict[str, tuple[Damage, tuple[str, ...]]] = {
    "dyn without hours": (
        lambda frames: drop_column(frames, "dyn", "time"),
        ("dyn.parquet", "'time'"),
    ),
    "one label a stay": (
        lambda frames: drop_column(frames, "outc", "time"),
        ("outc.parquet", "one label a stay", "cohort.options.response=death"),
    ),
    "no label": (
        lambda frames: drop_column(frames, "outc", "label"),
        ("outc.parquet", "'label'"),
    ),
    "no sex": (
        lambda frames: drop_column(frames, "sta", "sex"),
        ("sta.parquet", "'sex'", "empty"),
    ),
    "measurements are texts": (
        lambda frames: change_columns(frames, "dyn", hr=TEXT),
        ("'hr'", "String", "numbers"),
    ),
    "ids are texts": (
        lambda frames: change_columns(frames, "sta", stay_id=TEXT),
        ("'stay_id'", "whole numbers"),
    ),
    "stay 11.5": (
        lambda frames: change_columns(frames, "dyn", stay_id=pl.col("stay_id") + 0.5),
        ("dyn.parquet", "'stay_id'", "such as 11.5", "not whole numbers"),
    ),
    "subjects are fractions": (
        lambda frames: change_columns(frames, "sta", subject_id=pl.col("stay_id") / 10),
        ("sta.parquet", "'subject_id'", "such as 1.1, ", "not whole numbers"),
    ),
    "a measurement beyond 2^53": (
        lambda frames: change_columns(frames, "dyn", hr=pl.lit(2**60)),
        ("dyn.parquet", "'hr'", "not numbers"),
    ),
    "measurements are flags": (
        lambda frames: change_columns(frames, "dyn", hr=pl.lit(value=True)),
        ("dyn.parquet", "'hr'", "Boolean, not numbers"),
    ),
    "sexes are flags": (
        lambda frames: change_columns(frames, "sta", sex=pl.lit(value=True)),
        ("sta.parquet", "'sex'", "Boolean, not text"),
    ),
    "hours are dates": (
        lambda frames: change_columns(frames, "dyn", time=pl.lit(EPOCH)),
        ("'time'", "Datetime", "hours since admission"),
    ),
    "labels are texts": (
        lambda frames: change_columns(frames, "outc", label=TEXT),
        ("'label'", "String"),
    ),
    "a row without a stay": (
        lambda frames: change_row(frames, "dyn", ROW, stay_id=None),
        ("1 rows have no stay", "dyn.parquet"),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_the_error_for_files_that_are_not_a_cohort_names_file_and_column(tmp_path: Path, case: str):
    damage, parts = REFUSED[case]
    raw = yaib.write_frames(tmp_path / "raw", damage(yaib.make_frames()))
    with pytest.raises(CheckFailed) as error:
        run_ingest(raw, tmp_path / "out")
    message = str(error.value)
    assert all(part in message for part in parts), message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [None, b"", b"PAR1 this is no parquet", "truncated"])
def test_the_error_for_a_missing_or_damaged_file_names_it(
    tmp_path: Path, content: bytes | str | None
):
    raw = yaib.write_frames(tmp_path / "raw", yaib.make_frames())
    file = raw / "outc.parquet"
    if content is None:
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-100] if isinstance(content, str) else content)
    with pytest.raises(CheckFailed, match=r"outc\.parquet"):
        run_ingest(raw, tmp_path / "out")


def test_the_error_for_a_damaged_page_names_the_file(tmp_path: Path):
    raw = yaib.write_frames(tmp_path / "raw", yaib.make_frames())
    file = raw / "dyn.parquet"
    data = bytearray(file.read_bytes())
    data[4:60] = b"\xff" * 56
    file.write_bytes(bytes(data))
    with pytest.raises(CheckFailed, match=r"dyn\.parquet"):
        run_ingest(raw, tmp_path / "out")


@pytest.mark.parametrize(
    ("file", "column"),
    [
        ("sta", pl.col("stay_id").cast(pl.Float64)),
        ("sta", pl.col("sex").cast(pl.Categorical)),
        ("sta", pl.col("sex").cast(pl.Enum(["Female", "Male"]))),
        ("dyn", pl.col("stay_id").cast(pl.UInt64)),
        ("dyn", pl.col("time").cast(pl.Duration("ns"))),
        ("dyn", pl.col("time").dt.total_hours()),
        ("dyn", pl.col("hr").cast(pl.Int16)),
        ("dyn", pl.col("temp").cast(pl.Decimal(10, 2))),
        ("outc", pl.col("label").cast(pl.Int8)),
    ],
)
def test_other_types_are_read_without_loss(tmp_path: Path, file: str, column: pl.Expr) -> None:
    frames = yaib.make_frames()
    clean = run_ingest(yaib.write_frames(tmp_path / "clean", frames), tmp_path / "one")
    frames[file] = frames[file].with_columns(column)
    raw = yaib.write_frames(tmp_path / "raw", frames)
    assert run_ingest(raw, tmp_path / "other").fingerprint == clean.fingerprint


def test_a_table_may_be_a_folder_a_link_or_numbered_files(tmp_path: Path) -> None:
    frames = yaib.make_frames()
    raw = yaib.write_frames(tmp_path / "raw", frames)
    clean = run_ingest(raw, tmp_path / "clean")
    (raw / "sta.parquet").rename(raw / "STA.PARQUET")
    (raw / "._sta.parquet").write_bytes(b"no parquet")
    (raw / "dyn.parquet").unlink()
    parts = tmp_path / "elsewhere"
    parts.mkdir()
    frames["dyn"][:20].write_parquet(parts / "part-0.parquet")
    untyped = pl.lit(None).alias("temp") if frames["dyn"][20:]["temp"].count() == 0 else "temp"
    frames["dyn"][20:].with_columns(untyped).write_parquet(parts / "part-1.parquet")
    (parts / "._part-0.parquet").write_bytes(b"no parquet")
    (raw / "dyn").symlink_to(parts)
    (raw / "outc.parquet").unlink()
    frames["outc"][7:].write_parquet(raw / "outc_2.parquet")
    frames["outc"][:7].with_columns(pl.col("label").cast(pl.Int8)).write_parquet(
        raw / "outc_1.parquet"
    )
    assert run_ingest(raw, tmp_path / "other").fingerprint == clean.fingerprint
    (raw / "outc_1.parquet").rename(raw / "outc_3.parquet")
    with pytest.raises(CheckFailed, match="part 1 of a table in numbered files is missing"):
        run_ingest(raw, tmp_path / "missing")


def test_all_files_of_a_table_have_the_same_columns(tmp_path: Path) -> None:
    frames = yaib.make_frames()
    raw = yaib.write_frames(tmp_path / "raw", frames)
    (raw / "dyn.parquet").unlink()
    frames["dyn"][:20].write_parquet(raw / "dyn_1.parquet")
    frames["dyn"][20:].drop("urine").write_parquet(raw / "dyn_2.parquet")
    with pytest.raises(CheckFailed, match="not all files of dyn have the column 'urine'"):
        run_ingest(raw, tmp_path / "out")
