"""Which rows a figure is about: all scored ones, transitions in, one row for each stay, or a
subgroup.

Per stay A stay's score is the highest probability on its scored rows before the first row on which
    it is already in the state; its label says whether any of those rows has y = 1, its alarm
    whether any of them rings. A stay that is in the state from its first row on asks nothing and is
    left out. Long stays have more chances of a high score: that is part of what a ward would see.
Onset and lead time Of each stay's first episode that begins under observation. The target window of
    step k ends with step k + horizon, so that an onset falls into step k0 + horizon, where k0 is
    the first of those rows with y = 1; a stay that begins with y = 1 may have it earlier: then the
    first row in the state tells. The onset is dated to the end of its step. Its lead time runs from
    the stay's first alarm, when the prediction was made, to there; an alarm that comes later is
    none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from flowsheet.config import Censor, EvaluationConfig, Response, TaskConfig
from flowsheet.evaluation.folds import ModelPredictions
from flowsheet.evaluation.metrics import ScoredRows
from flowsheet.evaluation.metrics.normalised_utility import OPTIMAL
from flowsheet.typing import AnyArray, Bools, Floats, Ints
from flowsheet.windows.sequences import Sequences

ALL, NEW_ONSETS, STAYS, NOT_TOLD = "all", "new_onsets", "stays", "not told"


@dataclass(frozen=True)
class Subset:
    """A set of scored rows under a name."""

    name: str
    rows: Bools  # (N,)
    is_subgroup: bool = False
    per_stay: bool = False
    """One figure is made of all of a stay's rows."""

    def within(self, rows: Bools) -> Subset:
        """Those of its rows that are among ``rows`` (N,), whole stays."""
        return Subset(self.name, self.rows & rows, self.is_subgroup, self.per_stay)


def list_subsets(sequences: Sequences, subgroups: pl.DataFrame | None) -> Iterator[Subset]:
    """All scored rows; transitions in, where they are not the same; stays; one subset for each value
    in ``subgroups``.

    ``subgroups`` has a column ``stay_id``; every other column is a grouping, whose values are told
    in their order, an Enum in its own. A grouping with a single value tells nothing and is left
    out.
    """
    yield Subset(ALL, np.asarray(sequences.scored))
    transitions = np.asarray(sequences.scored & ~sequences.in_state)
    if not np.array_equal(transitions, sequences.scored):
        yield Subset(NEW_ONSETS, transitions)
    yield Subset(STAYS, np.asarray(sequences.scored) & _before_state(sequences), per_stay=True)
    if subgroups is not None:
        yield from _subgroups(sequences, subgroups)


def _before_state(sequences: Sequences) -> Bools:
    """Rows before the stay's first one in the state, shape (N,)."""
    so_far = np.concatenate([[0], np.cumsum(sequences.in_state)])
    return np.asarray(so_far[1:] == np.repeat(so_far[sequences.offsets[:-1]], sequences.lengths))


def _subgroups(sequences: Sequences, frame: pl.DataFrame) -> Iterator[Subset]:
    stays = pl.DataFrame({"stay_id": np.asarray(sequences.stay_id)})
    frame = stays.join(
        frame.unique("stay_id"), on="stay_id", how="left", maintain_order="left"
    ).drop("stay_id")
    for column in frame.columns:
        if frame[column].n_unique() < 2:
            continue  # the group is everybody
        known = (
            frame[column].drop_nulls().unique().sort().cast(pl.String).to_list()
        )  # an Enum keeps its own order
        values = frame[column].cast(pl.String).fill_null(NOT_TOLD).to_numpy()
        for value in [*known, *([NOT_TOLD] if frame[column].has_nulls() else [])]:
            rows = np.asarray(sequences.scored) & (values == value)[sequences.row_stay]
            yield Subset(f"{column}: {value}", rows, is_subgroup=True)


def scored(
    sequences: Sequences,
    subset: Subset,
    told: ModelPredictions,
    config: EvaluationConfig,
    task: TaskConfig | None = None,
) -> ScoredRows:
    """What a model is judged by in a subset. Subjects are numbered alike in all subsets."""
    if subset.per_stay:
        return _scored_stays(sequences, subset, told, config, task)
    rows, stay = subset.rows, sequences.row_stay
    subjects, number = np.unique(sequences.subject_id, return_inverse=True)
    return ScoredRows(
        y=np.asarray(sequences.y[rows]),
        p=told.p[rows],
        subject=number[stay[rows]],
        stay=stay[rows],
        step=np.asarray(sequences.step[rows], np.int64),
        subjects=len(subjects),
        alarm=None if told.alarm is None else told.alarm[rows],
        whole_stays=has_utility(task) and subset.name != NEW_ONSETS,
        minimum_events=config.minimum_events,
    )


def _scored_stays(
    sequences: Sequences,
    subset: Subset,
    told: ModelPredictions,
    config: EvaluationConfig,
    task: TaskConfig | None,
) -> ScoredRows:
    rows = np.flatnonzero(subset.rows)
    subjects, number = np.unique(sequences.subject_id, return_inverse=True)
    stays, starts = np.unique(sequences.row_stay[rows], return_index=True)
    alarm = None if told.alarm is None else told.alarm[rows]
    return ScoredRows(
        y=_most(sequences.y[rows], starts),
        p=_most(told.p[rows], starts),
        subject=number[stays],
        stay=np.arange(len(stays)),
        step=np.ones(len(stays), np.int64),
        subjects=len(subjects),
        alarm=None if alarm is None else _most(alarm, starts),
        minimum_events=config.minimum_events,
        per_stay=True,
        lead=None
        if alarm is None or task is None
        else _lead_times(sequences, rows, starts, alarm, task),
    )


def _most(values: AnyArray, starts: Ints) -> AnyArray:
    """The largest value of each stay; ``starts`` are the places of the stays' first rows."""
    return np.maximum.reduceat(values, starts) if len(starts) else values[:0]


def _lead_times(
    sequences: Sequences,
    rows: Ints,
    starts: Ints,
    alarm: Bools,
    task: TaskConfig,
) -> Floats:
    """Hours from the first alarm to onset for each stay that has ``rows``; NaN without an earlier alarm or onset."""
    step, stay = sequences.step[rows].astype(np.float64), sequences.row_stay[rows][starts]
    rung, due = (_first(step, chosen, starts) for chosen in (alarm, sequences.y[rows] == 1))
    onset = np.where(
        np.isfinite(due), np.minimum(due + task.horizon, _enters_state(sequences)[stay]), np.inf
    )
    rest = 0.0 if task.cutoff_hours is None else task.step_hours - task.cutoff_hours
    told = np.isfinite(onset) & np.isfinite(rung)
    lead = np.full(len(starts), np.nan)
    lead[told] = (onset[told] - rung[told]) * task.step_hours + rest
    return np.where(lead > 0, lead, np.nan)


def _first(step: Floats, chosen: Bools, starts: Ints) -> Floats:
    """For each stay the first step of the chosen rows, infinite where there is none."""
    return np.minimum.reduceat(np.where(chosen, step, np.inf), starts) if len(starts) else step[:0]


def _enters_state(sequences: Sequences) -> Floats:
    """For each stay the first step at which it is already in the state, infinite where it never is; shape (S,)."""
    rows = np.flatnonzero(sequences.in_state)
    stay, first = np.unique(sequences.row_stay[rows], return_index=True)
    found = np.full(len(sequences), np.inf)
    found[stay] = sequences.step[rows[first]]
    return found


def has_utility(task: TaskConfig | None) -> bool:
    """Whether PhysioNet 2019's utility is defined: the state six hours ahead, asked at every hour of every stay."""
    return task is not None and (task.step_hours, task.horizon, task.response, task.censor) == (
        1,
        -OPTIMAL,
        Response.state,
        Censor.keep,
    )
