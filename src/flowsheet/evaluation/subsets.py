"""The subsets of rows that are evaluated: all scored rows, parts of them, stays and subgroups.

New onsets
    Rows of patients who are not in the state (not septic) at the time of prediction.

Before treatment
    Rows at whose prediction time the record has no antibiotic or other anti-infective, so that no
    clinician is known to suspect an infection yet. Cultures are not in the record's tables.

Subgroups
    Rows of the stays of a group. Where new onsets are a part of the rows, a second table has the
    subgroups of the patients who are not in the state at the time of prediction.

Stays
    One row a stay. Its probability is the highest on its scored rows before the first row that is
    already in the state; its label is whether any of those rows has y = 1, its alert whether any of
    them raises one. A stay that is in the state from its first row on is left out. Long stays have
    more chances of a high probability: so they would on a ward. Weights of rows do not apply.

Onset and lead time
    Of each stay's first episode that begins under observation. The target window of step k ends
    with step k + horizon, so that an onset falls into step k0 + horizon, where k0 is the first of
    those rows with y = 1. A stay that begins with y = 1 may have an earlier onset: then the first
    row in the state dates it. The onset is dated to the end of its step. The lead time runs from
    the prediction of the stay's first alert to the onset; an alert after the onset does not count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from flowsheet.config import CLOCK, Censor, EvaluationConfig, Target, TaskConfig
from flowsheet.evaluation.folds import ModelPredictions
from flowsheet.evaluation.metrics import ScoredRows
from flowsheet.evaluation.metrics.normalised_utility import OPTIMAL
from flowsheet.typing import AnyArray, Bools, Floats, Ints
from flowsheet.windows.sequences import Sequences

ALL = "all"
NEW_ONSETS = "new_onsets"
BEFORE_TREATMENT = "before_treatment"
STAYS = "stays"
UNKNOWN_GROUP = "unknown"
TIME_GROUPING = "hours since admission"
"""Subgroups of rows by the time of prediction; all others are subgroups of patients."""


@dataclass(frozen=True)
class Subset:
    """A named set of scored rows."""

    name: str
    rows: Bools  # (N,)
    is_subgroup: bool = False
    is_per_stay: bool = False
    """The rows of a stay are evaluated as one."""

    def intersect(self, rows: Bools) -> Subset:
        """The rows of the subset that are in ``rows`` (N,), which are whole stays."""
        return Subset(self.name, self.rows & rows, self.is_subgroup, self.is_per_stay)


def list_subsets(sequences: Sequences, subgroups: pl.DataFrame | None) -> Iterator[Subset]:
    """All scored rows, new onsets, rows before treatment, stays, and every subgroup.

    New onsets and rows before treatment are left out where they are all rows, and stays where each
    has one row. ``subgroups`` has a column ``stay_id``; every other column is a grouping, with a
    subset for each of its values, in their order (an Enum in its own). A grouping with a single
    value is left out.
    """
    scored = np.asarray(sequences.scored)
    yield Subset(ALL, scored)
    yield from _parts(sequences)
    if np.bincount(sequences.row_stay[scored], minlength=1).max() != 1:
        yield Subset(STAYS, scored & _is_before_state(sequences), is_per_stay=True)
    if subgroups is not None:
        yield from _subgroup_subsets(sequences, subgroups, scored)


def list_time_subsets(
    sequences: Sequences, config: EvaluationConfig, task: TaskConfig | None, rows: Bools
) -> Iterator[Subset]:
    """Of these rows (N,), those that predict at fixed times after admission.

    A time at which less than ``minimum_events`` rows have the event is left out.

    Args:
        sequences: the evaluated stays, N rows.
        config: the hours after admission.
        task: its steps; None: no times are known. A task that asks once a stay has no others.
        rows: (N,) the rows to select from.
    """
    if task is None or task.at_hours is not None:
        return
    for hours in config.hours_since_admission:
        step = hours / task.step_hours
        at_time = rows & (np.asarray(sequences.step) == step)
        if np.count_nonzero(sequences.y[at_time]) >= config.minimum_events:
            yield Subset(f"{TIME_GROUPING}: {hours:g}", at_time, is_subgroup=True)


def list_new_onset_subgroups(
    sequences: Sequences, subgroups: pl.DataFrame | None
) -> Iterator[Subset]:
    """The subgroups of the rows of patients who are not in the state at prediction."""
    if subgroups is not None:
        rows = np.asarray(sequences.scored) & ~np.asarray(sequences.in_state)
        yield from _subgroup_subsets(sequences, subgroups, rows)


def select_judged_rows(sequences: Sequences, config: EvaluationConfig) -> Subset:
    """The rows by which a model is judged in development: new onsets, or else all scored rows.

    All rows where none is of a patient in the state, and where new onsets are too few for an
    estimate.
    """
    scored = np.asarray(sequences.scored)
    new_onsets = np.asarray(scored & ~np.asarray(sequences.in_state))
    n_events = int(np.count_nonzero(sequences.y[new_onsets]))
    n_fewer = min(n_events, int(new_onsets.sum()) - n_events)
    if np.array_equal(new_onsets, scored) or n_fewer < config.minimum_events:
        return Subset(ALL, scored)
    return Subset(NEW_ONSETS, new_onsets)


def _parts(sequences: Sequences) -> Iterator[Subset]:
    """New onsets and rows before treatment, where they are not all rows."""
    scored = np.asarray(sequences.scored)
    parts = {NEW_ONSETS: scored & ~sequences.in_state}
    if sequences.before_treatment is not None:
        parts[BEFORE_TREATMENT] = scored & sequences.before_treatment
    for name, rows in parts.items():
        if not np.array_equal(rows, scored):
            yield Subset(name, np.asarray(rows))


def _is_before_state(sequences: Sequences) -> Bools:
    """Whether a row precedes the first row of its stay that is in the state, shape (N,)."""
    so_far = np.concatenate([[0], np.cumsum(sequences.in_state)])
    before_stay = np.repeat(so_far[sequences.offsets[:-1]], sequences.lengths)
    return np.asarray(so_far[1:] == before_stay)


def _subgroup_subsets(
    sequences: Sequences, subgroups: pl.DataFrame, rows: Bools
) -> Iterator[Subset]:
    stays = pl.DataFrame({"stay_id": np.asarray(sequences.stay_id)})
    groupings = stays.join(
        subgroups.unique("stay_id"), on="stay_id", how="left", maintain_order="left"
    ).drop("stay_id")
    for grouping in groupings:
        if grouping.n_unique() < 2:
            continue  # the only group is all stays
        # sorted before the cast: an Enum keeps its own order
        groups = grouping.drop_nulls().unique().sort().cast(pl.String).to_list()
        if grouping.has_nulls():
            groups.append(UNKNOWN_GROUP)
        group_of_stay = grouping.cast(pl.String).fill_null(UNKNOWN_GROUP).to_numpy()
        for group in groups:
            is_in_group = (group_of_stay == group)[sequences.row_stay]
            yield Subset(f"{grouping.name}: {group}", rows & is_in_group, is_subgroup=True)


def score_models(
    sequences: Sequences,
    subset: Subset,
    predictions: Mapping[str, ModelPredictions],
    config: EvaluationConfig,
    task: TaskConfig | None = None,
) -> dict[str, ScoredRows]:
    """The rows of a subset with the predictions of each model, beside those of the clock.

    Args:
        sequences: the evaluated stays, N rows.
        subset: the rows to score.
        predictions: by model, for all N rows.
        config: the least number of events for an estimate.
        task: with it stays have lead times, and rows the PhysioNet 2019 utility where defined.
    """
    scored = {
        model: score_rows(sequences, subset, predictions[model], config, task)
        for model in sorted(predictions)
    }
    clock = scored.get(CLOCK)
    if clock is None or subset.is_per_stay:
        return scored
    return {m: rows if m == CLOCK else replace(rows, clock=clock) for m, rows in scored.items()}


def score_rows(
    sequences: Sequences,
    subset: Subset,
    predictions: ModelPredictions,
    config: EvaluationConfig,
    task: TaskConfig | None = None,
) -> ScoredRows:
    """The labels and predictions of the rows of a subset, or of its stays.

    Args:
        sequences: the evaluated stays, N rows; subjects are numbered alike in all subsets.
        subset: the rows to score.
        predictions: of one model, for all N rows.
        config: the least number of events for an estimate.
        task: with it stays have lead times, and rows the PhysioNet 2019 utility where defined.
    """
    if subset.is_per_stay:
        return _score_stays(sequences, subset, predictions, config, task)
    rows, stay = subset.rows, sequences.row_stay
    subjects, subject_of_stay = np.unique(sequences.subject_id, return_inverse=True)
    return ScoredRows(
        y=np.asarray(sequences.y[rows]),
        p=predictions.p[rows],
        subject=subject_of_stay[stay[rows]],
        stay=stay[rows],
        step=np.asarray(sequences.step[rows], np.int64),
        n_subjects=len(subjects),
        is_alert=None if predictions.is_alert is None else predictions.is_alert[rows],
        has_whole_stays=has_utility(task) and subset.name not in {NEW_ONSETS, BEFORE_TREATMENT},
        minimum_events=config.minimum_events,
        step_hours=None if task is None or task.at_hours is not None else task.step_hours,
        has_first_onsets=task is not None and task.target is Target.onset,
        weight=None if sequences.weight is None else np.asarray(sequences.weight[rows]),
    )


def _score_stays(
    sequences: Sequences,
    subset: Subset,
    predictions: ModelPredictions,
    config: EvaluationConfig,
    task: TaskConfig | None,
) -> ScoredRows:
    rows = np.flatnonzero(subset.rows)
    subjects, subject_of_stay = np.unique(sequences.subject_id, return_inverse=True)
    stays, starts = np.unique(sequences.row_stay[rows], return_index=True)
    is_alert = None if predictions.is_alert is None else predictions.is_alert[rows]
    lead_time = None
    if is_alert is not None and task is not None:
        lead_time = _lead_times(sequences, rows, starts, is_alert, task)
    return ScoredRows(
        y=_maximum_by_stay(sequences.y[rows], starts),
        p=_maximum_by_stay(predictions.p[rows], starts),
        subject=subject_of_stay[stays],
        stay=np.arange(len(stays)),
        step=np.ones(len(stays), np.int64),
        n_subjects=len(subjects),
        is_alert=None if is_alert is None else _maximum_by_stay(is_alert, starts),
        minimum_events=config.minimum_events,
        is_per_stay=True,
        lead_time=lead_time,
    )


def _maximum_by_stay(values: AnyArray, starts: Ints) -> AnyArray:
    """The largest value of each stay; ``starts`` are the positions of the stays' first rows."""
    return np.maximum.reduceat(values, starts) if len(starts) else values[:0]


def _lead_times(
    sequences: Sequences, rows: Ints, starts: Ints, is_alert: Bools, task: TaskConfig
) -> Floats:
    """Hours from each stay's first alert to its onset; NaN without an onset or an earlier alert.

    Args:
        sequences: the evaluated stays.
        rows: (n,) positions of the stays' rows before the state.
        starts: (s,) positions in ``rows`` of the stays' first rows.
        is_alert: (n,) whether each of the rows raises an alert.
        task: its horizon and steps date the onset.

    Returns:
        Hours, shape (s,).
    """
    step, stay = sequences.step[rows].astype(np.float64), sequences.row_stay[rows][starts]
    first_alert = _first_step(step, is_alert, starts)
    first_positive = _first_step(step, sequences.y[rows] == 1, starts)
    ahead = np.inf if task.horizon is None else task.horizon
    onset = np.minimum(first_positive + ahead, _first_step_in_state(sequences)[stay])
    onset = np.where(np.isfinite(first_positive), onset, np.inf)
    rest_of_step = 0.0 if task.cutoff_hours is None else task.step_hours - task.cutoff_hours
    is_known = np.isfinite(onset) & np.isfinite(first_alert)
    hours = np.full(len(starts), np.nan)
    steps_ahead = onset[is_known] - first_alert[is_known]
    hours[is_known] = steps_ahead * task.step_hours + rest_of_step
    return np.where(hours > 0, hours, np.nan)


def _first_step(step: Floats, mask: Bools, starts: Ints) -> Floats:
    """The first step of each stay where ``mask`` is true; infinite where there is none."""
    return np.minimum.reduceat(np.where(mask, step, np.inf), starts) if len(starts) else step[:0]


def _first_step_in_state(sequences: Sequences) -> Floats:
    """The first step of each stay that is in the state, infinite where none is; shape (S,)."""
    rows = np.flatnonzero(sequences.in_state)
    stay, first_row = np.unique(sequences.row_stay[rows], return_index=True)
    first_step = np.full(len(sequences), np.inf)
    first_step[stay] = sequences.step[rows[first_row]]
    return first_step


def has_utility(task: TaskConfig | None) -> bool:
    """Whether the PhysioNet 2019 utility is defined for the task.

    It takes hourly predictions of the state six hours ahead, at every hour of every stay.
    """
    return task is not None and (task.step_hours, task.horizon, task.target, task.censor) == (
        1,
        -OPTIMAL,
        Target.state,
        Censor.keep,
    )
