"""Groups of subjects that stand for other places or times: one is left out, to choose without it.

``unit``, ``site``
    Of the subject's first stay.
``year``
    Of the subject's first admission, in at most five spans of years with about as many subjects.
``charting``
    Thirds of the subjects, by the measurements that arrive in a step of their stays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl

from flowsheet.config import LeaveOut
from flowsheet.errors import UsageError
from flowsheet.typing import AnyArray, Floats
from flowsheet.windows.sequences import Sequences

MAX_SPANS = 5
_UNKNOWN = "unknown"
OTHERS = "others"
"""Groups in which too few subjects have the event, together."""
_CHARTING = ("charted least", "charted as usual", "charted most")


def group_subjects(
    parts: Sequence[Sequences], stays: pl.DataFrame, by: LeaveOut, least_events: int
) -> pl.DataFrame:
    """subject_id and group: one row for each subject of the parts, by subject.

    Args:
        parts: Stays with inputs as they are.
        stays: stay_id, subject_id, admitted_at, unit and site of these stays or more.
        by: What makes a group.
        least_events: Groups with fewer subjects with the event are together ``OTHERS``.

    Raises:
        UsageError: the features do not say what is measured, by which ``charting`` goes, or there
            are not two groups with so many subjects with the event. It ends the experiment: by a
            ``CheckFailed`` all models that are tuned would be left out of it.
    """
    described = pl.concat([_describe_stays(part, by) for part in parts])
    subjects = (
        described.join(stays, on="stay_id")
        .sort("subject_id", "admitted_at", "stay_id")
        .group_by("subject_id", maintain_order=True)
        .agg(_AGGREGATES[by].alias("value"), pl.col("has_event").any())
    )
    labelled = subjects.with_columns(group=_LABELS[by](subjects["value"]))
    return _merge_small(labelled, by, least_events).select("subject_id", "group")


def _describe_stays(sequences: Sequences, by: LeaveOut) -> pl.DataFrame:
    """stay_id, has_event, and the rate of measurements where groups go by it."""
    is_event = np.asarray(sequences.scored) & (np.asarray(sequences.y) == 1)
    events = np.bincount(sequences.row_stay[is_event], minlength=len(sequences)) > 0
    columns: dict[str, AnyArray] = {"stay_id": np.asarray(sequences.stay_id), "has_event": events}
    if by == "charting":
        columns["rate"] = _count_measurements(sequences)
    return pl.DataFrame(columns)


def _count_measurements(sequences: Sequences) -> Floats:
    """Measurements that arrive in a step, the mean of each stay (S,)."""
    columns = sequences.columns("missing")
    if not columns:
        raise UsageError(
            "groups of charting habits need features that say what is measured",
            where="tuning.leave_out=charting",
            todo="set features.missing_indicators=true, or leave out groups of another kind",
        )
    arrived = np.zeros(sequences.rows)
    for rows, block in sequences.blocks():
        arrived[rows] = len(columns) - np.asarray(block.x)[:, columns].sum(axis=1)
    total = np.bincount(sequences.row_stay, arrived, minlength=len(sequences))
    return np.asarray(total / np.maximum(sequences.lengths, 1), np.float64)


_AGGREGATES: dict[LeaveOut, pl.Expr] = {
    "unit": pl.col("unit").first(),
    "site": pl.col("site").first(),
    "year": pl.col("admitted_at").first().dt.year(),
    "charting": pl.col("rate").mean(),
}


def _label_names(values: pl.Series) -> pl.Series:
    return values.cast(pl.String).fill_null(_UNKNOWN)


def _label_spans(values: pl.Series) -> pl.Series:
    """Spans of whole years, such as 2008 to 2010."""
    years = values.to_numpy()
    shares = np.arange(1, MAX_SPANS) / MAX_SPANS
    ends = np.unique(np.quantile(years, shares, method="inverted_cdf"))
    span = np.searchsorted(ends, years, side="left")
    labels = {
        int(s): f"{years[span == s].min()} to {years[span == s].max()}" for s in np.unique(span)
    }
    return pl.Series([labels[int(s)] for s in span])


def _label_thirds(values: pl.Series) -> pl.Series:
    rates = values.to_numpy()
    ends = np.quantile(rates, (1 / 3, 2 / 3))
    return pl.Series([_CHARTING[i] for i in np.searchsorted(ends, rates, side="left")])


_LABELS: dict[LeaveOut, Callable[[pl.Series], pl.Series]] = {
    "unit": _label_names,
    "site": _label_names,
    "year": _label_spans,
    "charting": _label_thirds,
}


def _merge_small(subjects: pl.DataFrame, by: LeaveOut, least_events: int) -> pl.DataFrame:
    """Groups with too few subjects with the event as one group, which has to have enough too."""
    with_event = pl.col("has_event").sum().over("group")
    is_small = with_event < least_events
    merged = subjects.with_columns(group=pl.when(is_small).then(pl.lit(OTHERS)).otherwise("group"))
    counts = merged.group_by("group").agg(pl.col("has_event").sum()).sort("group")
    enough = counts.filter(pl.col("has_event") >= least_events)["group"]
    if len(enough) < 2:
        found = ", ".join(f"{group}: {events}" for group, events in counts.iter_rows())
        raise UsageError(
            f"the subjects cannot be divided by {by}: two groups need {least_events} subjects with "
            "the event each",
            where=f"tuning.leave_out={by}; subjects with the event: {found}",
            todo="leave out groups of another kind (unit, site, year, charting), or none",
        )
    return merged
