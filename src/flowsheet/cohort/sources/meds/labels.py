"""Episodes from a file of labels in MEDS's label schema."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import polars as pl

from flowsheet.cohort.lossless import cast_lossless
from flowsheet.cohort.parquet import read_verified, report_unreadable
from flowsheet.cohort.record_files import walk_files
from flowsheet.cohort.schema import LABEL, TIME, to_contract
from flowsheet.cohort.sources.meds.assignment import assign_stays
from flowsheet.config.overrides import absolute_path
from flowsheet.errors import CheckFailed

_COLUMNS: dict[str, pl.DataType] = {
    "subject_id": pl.Int64(),
    "prediction_time": TIME,
    "boolean_value": pl.Boolean(),
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


def read_labels(name: str, time_zone: str | None = None) -> pl.DataFrame:
    """(subject_id, time, label) of every label at a path.

    Zoned times are converted to the local time of ``time_zone``; without one they are refused.

    Raises:
        CheckFailed: a file is unreadable, or lacks a column or has one of another type.
    """
    return pl.concat([_read_file(file, time_zone) for file in find_label_files(name)])


def build_episodes(  # noqa: PLR0917 - the tables, then the meaning of a label
    labels: pl.DataFrame,
    stays: pl.DataFrame,
    lead_hours: float,
    known_after_hours: float,
    exclusions: Counter[str],
    response: str = LABEL,
) -> pl.DataFrame:
    """One episode for each run of true labels of a stay.

    Args:
        labels: Rows (subject_id, time, label).
        stays: The contract's table.
        lead_hours: Hours from the first true label to the onset, and from the next false label to
            the end; without a false label the end is null.
        known_after_hours: Hours after the onset until the episode is known.
        exclusions: Gets the number of labels outside of all stays.
        response: Of the episodes.
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
        "stay_id",
        response=pl.lit(response),
        onset=onset,
        end=pl.col("end") + lead,
        known_at=onset + known_after,
    )
    return to_contract("episodes", episodes)


def _read_file(file: Path, time_zone: str | None) -> pl.DataFrame:
    with report_unreadable(file, "the labels"):
        labels = read_verified(file)
    columns: dict[str, pl.Series] = {}
    for column, dtype in _COLUMNS.items():
        what = f"there is no column {column!r}"
        if column in labels.columns:
            columns[column], problem = cast_lossless(labels[column], dtype, time_zone)
            what = f"the column {column!r} contains {problem}" if problem else ""
        if not what and columns[column].null_count():
            what = f"the column {column!r} has empty cells"
        if what:
            raise CheckFailed(what, where=str(file), todo="follow MEDS's label schema")
    return pl.DataFrame(columns).rename({"prediction_time": "time", "boolean_value": "label"})
