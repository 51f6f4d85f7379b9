"""Episodes from a file of labels in MEDS's label schema."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import polars as pl

from flowsheet.cohort.parquet import read_verified, report_unreadable
from flowsheet.cohort.record_files import walk_files
from flowsheet.cohort.schema import to_contract
from flowsheet.cohort.sources.meds.assignment import assign_stays
from flowsheet.config.overrides import absolute_path
from flowsheet.errors import CheckFailed

_COLUMNS = {
    "subject_id": "whole numbers",
    "prediction_time": "times",
    "boolean_value": "true and false",
}


def find_label_files(name: str) -> list[Path]:
    """The label files at a path, which may be a file or a folder.

    Raises:
        CheckFailed: there are none.
    """
    path = absolute_path(name)
    files = walk_files(path, (".parquet",)) if path.is_dir() else [path]
    if not files or not all(file.is_file() for file in files):
        raise CheckFailed("there are no labels", where=str(path), todo="fix cohort.options.labels")
    return files


def read_labels(name: str) -> pl.DataFrame:
    """(subject_id, time, label) of every label at a path.

    Raises:
        CheckFailed: a file is unreadable, or lacks a column or has one of another type.
    """
    return pl.concat([_read_file(file) for file in find_label_files(name)])


def build_episodes(
    labels: pl.DataFrame,
    stays: pl.DataFrame,
    lead_hours: float,
    known_after_hours: float,
    exclusions: Counter[str],
) -> pl.DataFrame:
    """One episode for each run of true labels of a stay.

    Args:
        labels: Rows (subject_id, time, label).
        stays: The contract's table.
        lead_hours: Hours from the first true label to the onset, and from the next false label to
            the end; without a false label the end is null.
        known_after_hours: Hours after the onset until the episode is known.
        exclusions: Gets the number of labels outside of all stays.
    """
    labels = assign_stays(labels, stays, before_hours=0.0, after_hours=0.0)
    exclusions["labels outside of all stays"] += labels["stay_id"].null_count()
    ordered = labels.drop_nulls("stay_id").sort("stay_id", "time", "label")
    previous = pl.col("label").shift(1, fill_value=False).over("stay_id")
    changes = ordered.filter(pl.col("label") != previous)
    changes = changes.with_columns(end=pl.col("time").shift(-1).over("stay_id"))
    lead = pl.duration(seconds=round(lead_hours * 3600))
    known_after = pl.duration(seconds=round(known_after_hours * 3600))
    onset = pl.col("time") + lead
    episodes = changes.filter("label").select(
        "stay_id", onset=onset, end=pl.col("end") + lead, known_at=onset + known_after
    )
    return to_contract("episodes", episodes)


def _read_file(file: Path) -> pl.DataFrame:
    with report_unreadable(file, "the labels"):
        labels = read_verified(file)
    for column, content in _COLUMNS.items():
        if column not in labels.columns:
            raise CheckFailed(
                f"there is no column {column!r}",
                where=str(file),
                todo=f"add it; it contains {content}",
            )
        if not _has_type(labels, column):
            what = f"the column {column!r} contains {labels.schema[column]}, not {content}"
            raise CheckFailed(what, where=str(file), todo="follow MEDS's label schema")
        if labels[column].null_count():
            what = f"the column {column!r} has empty cells"
            raise CheckFailed(what, where=str(file), todo="follow MEDS's label schema")
    time = pl.col("prediction_time").cast(pl.Datetime("us"))
    return labels.select(pl.col("subject_id").cast(pl.Int64), time=time, label="boolean_value")


def _has_type(labels: pl.DataFrame, column: str) -> bool:
    dtype = labels.schema[column]
    if column == "subject_id":
        return dtype.is_integer()
    if column == "prediction_time":
        return isinstance(dtype, pl.Datetime) and dtype.time_zone is None
    return dtype == pl.Boolean
