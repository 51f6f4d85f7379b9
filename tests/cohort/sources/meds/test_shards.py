"""Damaged and incomplete data sets."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from flowsheet.errors import CheckFailed
from tests.cohort.sources.meds.conftest import (
    make_rows,
    open_source,
    run_ingest,
    write_data_set,
)


def write_damaged(folder: Path, damage: str) -> Path:
    root = write_data_set(folder, make_rows())
    file = root / "data" / "split" / "1.parquet"
    frame = pl.read_parquet(file)
    frames = {
        "no code": frame.drop("code"),
        "times as text": frame.with_columns(pl.col("time").cast(pl.String)),
        "a time zone": frame.with_columns(pl.col("time").dt.replace_time_zone("UTC")),
        "numbers as text": frame.with_columns(pl.col("numeric_value").cast(pl.String)),
        "flags as numbers": frame.with_columns(numeric_value=pl.lit(value=True)),
        "subject 1.1": frame.with_columns(pl.col("subject_id") / 10),
        "text as subject": frame.with_columns(pl.col("subject_id").cast(pl.String)),
        "stay 1.5": frame.with_columns(icustay_id=pl.lit(1.5)),
        "number beyond 2^53": frame.with_columns(numeric_value=pl.lit(2**60)),
        "rows without a subject": frame.with_columns(subject_id=pl.lit(None, pl.Int64)),
        "rows without a code": frame.with_columns(code=pl.lit(None, pl.String)),
    }
    contents = {"truncated": file.read_bytes()[:-100], "text": b"no parquet", "empty": b""}
    if damage in frames:
        frames[damage].write_parquet(file)
    else:
        file.write_bytes(contents[damage])
    return root


@pytest.mark.parametrize(
    ("damage", "parts"),
    [
        ("no code", ("'code'",)),
        ("times as text", ("'time'", "String", "timestamps")),
        ("a time zone", ("'time'", "UTC")),
        ("numbers as text", ("'numeric_value'", "String")),
        ("flags as numbers", ("'numeric_value'", "Boolean", "not numbers")),
        ("subject 1.1", ("'subject_id'", "such as 0.1, 0.3", "not whole numbers")),
        ("text as subject", ("'subject_id'", "String", "not whole numbers")),
        ("stay 1.5", ("'icustay_id'", "such as 1.5", "not whole numbers")),
        ("number beyond 2^53", ("'numeric_value'", "not numbers")),
        ("rows without a subject", ("20 rows have no subject_id",)),
        ("rows without a code", ("20 rows have no code",)),
        ("truncated", ("cannot be read",)),
        ("text", ("cannot be read",)),
        ("empty", ("cannot be read",)),
    ],
)
def test_the_error_for_a_damaged_shard_names_it(
    tmp_path: Path, damage: str, parts: tuple[str, ...]
):
    with pytest.raises(CheckFailed) as error:
        run_ingest(write_damaged(tmp_path / "raw", damage), tmp_path / "out")
    message = str(error.value)
    assert all(part in message for part in (*parts, "1.parquet")), message
    assert not (tmp_path / "out").exists()


def test_a_folder_without_shards_is_refused(tmp_path: Path):
    with pytest.raises(CheckFailed, match="not a MEDS data set"):
        open_source(tmp_path)


def test_metadata_that_is_not_json_is_refused(tmp_path: Path):
    root = write_data_set(tmp_path / "raw", make_rows())
    (root / "metadata" / "dataset.json").write_text("{", encoding="utf-8")
    with pytest.raises(CheckFailed, match=r"dataset\.json"):
        open_source(root)


def test_links_and_droppings_and_untyped_columns_do_not_matter(tmp_path: Path):
    root = write_data_set(tmp_path / "raw", make_rows())
    clean = run_ingest(root, tmp_path / "clean")
    (root / "data" / "split").rename(tmp_path / "elsewhere")
    (root / "data" / "split").symlink_to(tmp_path / "elsewhere")
    (root / "data" / "split" / "._0.parquet").write_bytes(b"no parquet")
    (root / "data" / ".cache").mkdir()
    (root / "data" / ".cache" / "x.parquet").write_bytes(b"no parquet")
    for file in sorted((tmp_path / "elsewhere").glob("[0-9]*.parquet")):
        frame = pl.read_parquet(file)
        if frame["numeric_value"].null_count() == frame.height:
            frame = frame.with_columns(numeric_value=pl.lit(None))
        frame.write_parquet(file)
    first = pl.read_parquet(tmp_path / "elsewhere" / "1.parquet").head(0)
    first.with_columns(numeric_value=pl.lit(None)).write_parquet(root / "data" / "9.parquet")
    assert run_ingest(root, tmp_path / "other").fingerprint == clean.fingerprint


@pytest.mark.parametrize(
    "column",
    [
        pl.col("subject_id").cast(pl.Int16),
        pl.col("subject_id").cast(pl.Float64),
        pl.col("code").cast(pl.Categorical),
        pl.col("numeric_value").cast(pl.Float64).round(3).cast(pl.Decimal(20, 3)),
        pl.col("order_id").cast(pl.Float64),
        pl.col("icustay_id").cast(pl.Float64).fill_null(float("nan")),
        pl.col("time").cast(pl.Datetime("ns")),
    ],
)
def test_other_types_are_read_without_loss(tmp_path: Path, column: pl.Expr) -> None:
    root = write_data_set(tmp_path / "raw", make_rows())
    clean = run_ingest(root, tmp_path / "clean")
    file = root / "data" / "split" / "1.parquet"
    pl.read_parquet(file).with_columns(column).write_parquet(file)
    assert run_ingest(root, tmp_path / "other").fingerprint == clean.fingerprint


def test_zoned_times_need_a_declared_zone(tmp_path: Path) -> None:
    root = write_data_set(tmp_path / "raw", make_rows())
    clean = run_ingest(root, tmp_path / "clean")
    for file in (root / "data").rglob("*.parquet"):
        frame = pl.read_parquet(file)
        time = pl.col("time").dt.replace_time_zone("Europe/Berlin").dt.convert_time_zone("UTC")
        frame.with_columns(time).write_parquet(file)
    with pytest.raises(CheckFailed, match="time_zone"):
        open_source(root)
    # polars knows no summer time after 2100: rather refused than wrong
    with pytest.raises(CheckFailed, match="such as 2150"):
        open_source(root, time_zone="Europe/Berlin")
    for file in (root / "data").rglob("*.parquet"):
        frame = pl.read_parquet(file)
        earlier = pl.col("time").dt.offset_by("-100y")
        frame.with_columns(earlier).write_parquet(file)
    local = run_ingest(root, tmp_path / "local", time_zone="Europe/Berlin")
    tables = (clean.tables().stays, local.tables().stays)
    hours = [(stays["discharged_at"] - stays["admitted_at"]).to_list() for stays in tables]
    assert hours[0] == hours[1]


def test_a_subject_in_several_shards_is_read_at_once(tmp_path: Path) -> None:
    root = write_data_set(tmp_path / "raw", make_rows())
    clean = run_ingest(root, tmp_path / "clean")
    assert clean.tables().treatments.height
    file = root / "data" / "split" / "1.parquet"
    frame = pl.read_parquet(file)
    is_end = pl.col("code").str.starts_with("INFUSION_END")
    frame.filter(~is_end).write_parquet(file)
    frame.filter(is_end).write_parquet(root / "data" / "split" / "2.parquet")
    assert run_ingest(root, tmp_path / "other").fingerprint == clean.fingerprint


def test_files_and_codes_that_are_not_read_leave_a_warning(tmp_path: Path) -> None:
    root = write_data_set(tmp_path / "raw", make_rows())
    shard = root / "data" / "split" / "1.parquet"
    unknown = pl.read_parquet(shard).with_columns(code=pl.lit("220045"))
    unknown.write_parquet(root / "data" / "3.parquet")
    (root / "data" / "4.pq").write_bytes(shard.read_bytes())
    (root / "data" / "_SUCCESS").write_bytes(b"")
    warnings = run_ingest(root, tmp_path / "out").manifest.warnings
    assert {
        "data/4.pq is no Parquet file and is not read",
        "no code of data/3.parquet is in the mapping",
    } <= set(warnings)


def test_many_implausible_values_leave_a_warning(tmp_path: Path) -> None:
    root = write_data_set(tmp_path / "raw", make_rows())
    shard = root / "data" / "split" / "1.parquet"
    value = pl.col("numeric_value").replace(98.6, -98.6)  # the second heart rate
    pl.read_parquet(shard).with_columns(numeric_value=value).write_parquet(shard)
    warnings = run_ingest(root, tmp_path / "out", max_share=0.02).manifest.warnings
    assert "2 values (8.3%) are implausible and excluded" in warnings[-1]
