"""Which rows a figure is about: all scored ones, transitions in, or a subgroup."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flowsheet.config import Censor, EvaluationConfig, Response, TaskConfig
from flowsheet.evaluation.metrics import Scored
from flowsheet.evaluation.metrics.normalised_utility import OPTIMAL
from flowsheet.windows.sequences import Sequences

ALL, TRANSITIONS_IN, NOT_TOLD = "all", "transitions_in", "not told"


@dataclass(frozen=True)
class Scope:
    """A set of scored rows under a name."""

    name: str
    rows: NDArray[np.bool_]  # (N,)
    is_subgroup: bool = False


def scopes(sequences: Sequences, subgroups: pl.DataFrame | None) -> Iterator[Scope]:
    """All scored rows; transitions in, where they are not the same; and one scope for each value in ``subgroups``.

    ``subgroups`` has a column ``stay_id``; every other column is a grouping, whose
    values are told in their order, an Enum in its own.
    """
    yield Scope(ALL, np.asarray(sequences.scored))
    transitions = np.asarray(sequences.scored & ~sequences.in_state)
    if not np.array_equal(transitions, sequences.scored):
        yield Scope(TRANSITIONS_IN, transitions)
    if subgroups is not None:
        yield from _subgroups(sequences, subgroups)


def _subgroups(sequences: Sequences, frame: pl.DataFrame) -> Iterator[Scope]:
    stays = pl.DataFrame({"stay_id": np.asarray(sequences.stay_id)})
    frame = stays.join(frame.unique("stay_id"), on="stay_id", how="left", maintain_order="left").drop("stay_id")
    for column in frame.columns:
        known = frame[column].drop_nulls().unique().sort().cast(pl.String).to_list()  # an Enum keeps its own order
        values = frame[column].cast(pl.String).fill_null(NOT_TOLD).to_numpy()
        for value in [*known, *([NOT_TOLD] if frame[column].has_nulls() else [])]:
            rows = np.asarray(sequences.scored) & (values == value)[sequences.row_stay]
            yield Scope(f"{column}: {value}", rows, is_subgroup=True)


def scored_rows(
    sequences: Sequences,
    scope: Scope,
    p: NDArray[np.float64],
    config: EvaluationConfig,
    *,
    threshold: float | None = None,
    whole_stays: bool = False,
) -> Scored:
    """The rows of one scope with one model's probabilities (N,). Subjects are numbered alike in all scopes."""
    rows, stay = scope.rows, sequences.row_stay
    subjects, number = np.unique(sequences.subject_id, return_inverse=True)
    return Scored(
        y=np.asarray(sequences.y[rows]),
        p=p[rows],
        subject=number[stay[rows]],
        stay=stay[rows],
        step=np.asarray(sequences.step[rows], np.int64),
        subjects=len(subjects),
        alarm=None if threshold is None else p[rows] >= threshold,
        whole_stays=whole_stays,
        minimum_events=config.minimum_events,
    )


def has_utility(task: TaskConfig | None) -> bool:
    """Whether PhysioNet 2019's utility is defined: the state six hours ahead, asked at every hour of every stay."""
    return task is not None and (task.step_hours, task.horizon, task.response, task.censor) == (
        1,
        -OPTIMAL,
        Response.state,
        Censor.keep,
    )
