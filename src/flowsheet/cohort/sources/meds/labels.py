"""Episodes out of a file of labels in MEDS's label schema."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import polars as pl

from flowsheet.cohort import parquet
from flowsheet.cohort.schema import EPISODES
from flowsheet.cohort.sources.meds.facts import of_stays
from flowsheet.errors import CheckFailed

_COLUMNS = {
    "subject_id": "whole numbers",
    "prediction_time": "times",
    "boolean_value": "true and false",
}


def files_of(named: str) -> list[Path]:
    """The label files at a path, a file or a folder.

    Raises:
        CheckFailed: there are none.
    """
    path = Path(named).expanduser().absolute()
    found = sorted(path.glob("**/*.parquet")) if path.is_dir() else [path]
    if not found or not all(file.is_file() for file in found):
        raise CheckFailed("there are no labels", where=str(path), todo="mend cohort.options.labels")
    return found


def read(named: str) -> pl.DataFrame:
    """(subject_id, time, label) of every label.

    Raises:
        CheckFailed: a file is unreadable, lacks a column, or has one of another type.
    """
    return pl.concat([_read(file) for file in files_of(named)])


def _read(file: Path) -> pl.DataFrame:
    with parquet.report_unreadable(file, "the labels"):
        labels = parquet.read_verified(file)
    for column, wanted in _COLUMNS.items():
        if column not in labels.columns:
            raise CheckFailed(
                f"there is no column {column!r}", where=str(file), todo=f"add it; it holds {wanted}"
            )
        kind = labels.schema[column]
        right = {"subject_id": kind.is_integer(), "prediction_time": kind.is_temporal()}.get(
            column, kind == pl.Boolean
        )
        if not right or labels[column].null_count():
            what = (
                f"the column {column!r} holds {kind}, not {wanted}"
                if not right
                else f"{column!r} has empty cells"
            )
            raise CheckFailed(what, where=str(file), todo="follow MEDS's label schema")
    time = pl.col("prediction_time").cast(pl.Datetime("us"))
    return labels.select(pl.col("subject_id").cast(pl.Int64), time=time, label="boolean_value")


def episodes(
    labels: pl.DataFrame,
    stays: pl.DataFrame,
    lead_hours: float,
    known_after_hours: float,
    left_out: Counter[str],
) -> pl.DataFrame:
    """One episode for each run of true labels of a stay.

    Onset is ``lead_hours`` after the first true one, the end that much after the next false one,
    null where none comes; the label is known ``known_after_hours`` after onset.
    """
    placed = of_stays(labels, stays, before_hours=0.0, after_hours=0.0)
    left_out["a label outside every stay"] += placed["stay_id"].null_count()
    ordered = placed.drop_nulls("stay_id").sort("stay_id", "time", "label")
    turns = ordered.filter(
        pl.col("label") != pl.col("label").shift(1, fill_value=False).over("stay_id")
    )
    after = turns.with_columns(end=pl.col("time").shift(-1).over("stay_id"))
    lead, known = (
        pl.duration(seconds=round(lead_hours * 3600)),
        pl.duration(seconds=round(known_after_hours * 3600)),
    )
    onset = pl.col("time") + lead
    found = after.filter("label").select(
        "stay_id", onset=onset, end=pl.col("end") + lead, known_at=onset + known
    )
    return found.cast(pl.Schema(EPISODES))
