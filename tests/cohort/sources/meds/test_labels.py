"""Episodes from files of labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from flowsheet.errors import CheckFailed
from tests.cohort.sources.meds.conftest import (
    at,
    make_rows,
    open_source,
    run_ingest,
    write_data_set,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_data_set(tmp_path / "raw", make_rows())


def write_labels(folder: Path, *rows: tuple[int, str, bool]) -> Path:
    columns = {
        "subject_id": [subject for subject, _, _ in rows],
        "prediction_time": [at(time) for _, time, _ in rows],
        "boolean_value": [label for _, _, label in rows],
    }
    folder.mkdir()
    frame = pl.DataFrame(columns).cast({"prediction_time": pl.Datetime("us")})
    frame.write_parquet(folder / "0.parquet")
    return folder


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    return write_labels(
        tmp_path / "labels",
        (1, "2150-03-01T12:00", False),
        (1, "2150-03-01T18:00", True),
        (1, "2150-03-02T00:00", True),
        (1, "2150-03-02T06:00", False),
        (1, "2150-03-02T12:00", True),
        (2, "2150-03-02T12:00", False),
        (3, "2149-03-02T12:00", True),
    )


def test_each_run_of_true_labels_is_an_episode(root: Path, labels: Path, tmp_path: Path):
    extract = run_ingest(root, tmp_path / "out", labels=str(labels), label_known_after_hours=10)
    assert extract.tables().episodes.drop("response", "present_on_admission").rows() == [
        (499, at("2150-03-01T18:00"), at("2150-03-02T06:00"), at("2150-03-02T04:00")),
        (499, at("2150-03-02T12:00"), None, at("2150-03-02T22:00")),
    ]
    assert dict(extract.manifest.exclusions) == {"labels outside of all stays": 1}


def test_the_lead_of_the_label_moves_onset_and_end(root: Path, labels: Path, tmp_path: Path):
    extract = run_ingest(
        root,
        tmp_path / "out",
        labels=str(labels),
        label_known_after_hours=10,
        label_lead_hours=6,
    )
    first = extract.tables().episodes.drop("response", "present_on_admission").row(0)
    assert first == (499, at("2150-03-02T00:00"), at("2150-03-02T12:00"), at("2150-03-02T10:00"))


def test_the_fingerprint_includes_the_labels(root: Path, labels: Path):
    with_labels = open_source(root, labels=str(labels)).fingerprint()
    assert with_labels != open_source(root).fingerprint()


def test_missing_label_files_are_refused(root: Path, tmp_path: Path):
    with pytest.raises(CheckFailed, match="there are no labels"):
        run_ingest(root, tmp_path / "out", labels=str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("boolean_value", 2, "true and false"),
        ("prediction_time", "x", "times"),
        ("subject_id", "x", "whole numbers"),
    ],
)
def test_labels_with_a_column_of_another_type_are_refused(
    root: Path, labels: Path, tmp_path: Path, column: str, value: Any, message: str
):
    file = labels / "0.parquet"
    pl.read_parquet(file).with_columns(pl.lit(value).alias(column)).write_parquet(file)
    with pytest.raises(CheckFailed, match=message):
        run_ingest(root, tmp_path / "out", labels=str(file))


@pytest.mark.parametrize("column", ["boolean_value", "prediction_time", "subject_id"])
def test_labels_without_a_column_are_refused(root: Path, labels: Path, tmp_path: Path, column: str):
    file = labels / "0.parquet"
    pl.read_parquet(file).drop(column).write_parquet(file)
    with pytest.raises(CheckFailed, match=f"no column '{column}'"):
        run_ingest(root, tmp_path / "out", labels=str(file))
