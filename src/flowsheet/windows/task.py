"""The target of each row, and the rows that are scored.

The target window of the row of step k is (p(k), t(k + horizon)]: everything after the prediction up
to the end of the horizon; with horizon 0 it is the rest of the step after the cut-off, and
without a horizon all time after the prediction. An episode
covers the half-open time [onset, end); a null end means that it continues after the record, and an
episode that was present on admission covers the time from admission on.

``target: state``
    y(k) = 1 when some episode has onset <= end of the window and end > p(k): septic at some time in
    the window.
``target: onset``
    y(k) = 1 when the *first* onset of the stay is in the window.
``in_state``
    Some episode has onset <= p(k) < end. This is the truth, not what was known; it describes rows
    and is not an input.

A row is ``scored`` unless one of these reasons excludes it, in this order (``Exclusion``):

``not_asked``
    The task asks at another hour of the stay (``at_hours``). All rows of a stay that ends before
    that hour are ``outside_stay`` instead.
``outside_stay``
    p(k) is before the record starts (a cut-off earlier than ``observed_from``), or after discharge
    or death (the last, partial step of a stay): there is no patient to predict for.
``after_comfort_measures``
    p(k) is after care was limited to comfort measures; only with ``end_at: comfort_measures``.
``present_on_admission``
    The patient came with the response (``target: onset`` only). Such a stay has no onset to
    predict, and is no control either: all its rows are excluded. Where a source does not record
    what was present on admission, no stay is excluded for it.
``after_onset``
    p(k) is at or after the first onset (``target: onset`` only).
``incomplete_window``
    The window outlasts the stay, or the questions; not with ``censor: keep``, which labels the part
    of the window after the stay as free of the event unless the onset of an episode was recorded
    there (PhysioNet 2019 labels onsets up to 6 h after the last row).

So whether a row is scored never depends on what happens in its window. With ``target: state`` it
does not depend on episodes at all; with ``target: onset`` only on those that began at or before
p(k), or were there on admission.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
import polars as pl

from flowsheet.cohort.time_grid import from_hours, microseconds
from flowsheet.config import Censor, Target, TaskConfig
from flowsheet.typing import Bools, Ints, Labels
from flowsheet.windows.grid import Grid


@dataclass(frozen=True)
class Episodes:
    """E episodes of the stays of a grid; times in microseconds."""

    stay: Ints  # (E,) position of the stay
    onset: Ints  # at admission at the latest, where present on admission
    end: Ints  # NEVER where it continues after the record
    known_at: Ints
    present_on_admission: Bools  # False where it is not recorded

    @classmethod
    def from_table(cls, grid: Grid, episodes: pl.DataFrame, response: str) -> Episodes:
        """The episodes of a response, of the stays that have rows, sorted by stay and onset.

        Episodes without a response are of the one that is asked for; only requests have such.
        """
        episodes = episodes.filter(pl.col("response").fill_null(response) == response)
        stay = grid.positions(episodes["stay_id"].to_numpy())
        episodes = episodes.filter(stay >= 0)
        stay = stay[stay >= 0]
        is_present = episodes["present_on_admission"].fill_null(value=False).to_numpy()
        charted_onset = microseconds(episodes["onset"])
        at_admission = np.minimum(charted_onset, grid.admitted[stay])
        onset = np.where(is_present, at_admission, charted_onset)
        end = microseconds(episodes["end"])
        known_at = microseconds(episodes["known_at"])
        order = np.lexsort((known_at, end, onset, stay))
        return cls(stay, onset, end, known_at, is_present).select(order)

    def select(self, episodes: Bools | Ints) -> Episodes:
        """The episodes of a mask or at positions."""
        return Episodes(
            self.stay[episodes],
            self.onset[episodes],
            self.end[episodes],
            self.known_at[episodes],
            self.present_on_admission[episodes],
        )

    def first_onsets(self) -> Episodes:
        """The first episode of each stay, shortened to its onset: end = onset."""
        is_first = np.append(True, self.stay[1:] != self.stay[:-1])[: len(self.stay)]
        first = self.select(is_first)
        return replace(first, end=first.onset)


class Exclusion(IntEnum):
    """Why a row is not scored: the first reason that applies (see the top of the module)."""

    none = 0
    not_asked = 1
    outside_stay = 2
    after_comfort_measures = 3
    present_on_admission = 4
    after_onset = 5
    incomplete_window = 6


@dataclass(frozen=True)
class Targets:
    """Targets of the N rows of a grid, each of shape (N,); defined at the top of the module."""

    y: Labels
    excluded: Labels  # an Exclusion
    in_state: Bools

    @property
    def scored(self) -> Bools:
        """Rows without a reason to exclude them."""
        return np.asarray(self.excluded == Exclusion.none)


def build_targets(grid: Grid, episodes: pl.DataFrame, task: TaskConfig) -> Targets:
    """The targets of every row; ``episodes`` is the contract's table."""
    all_episodes = Episodes.from_table(grid, episodes, task.response)
    is_state = task.target is Target.state
    responses = all_episodes if is_state else all_episodes.first_onsets()
    y = _is_in_window(grid, responses, task.horizon)
    reasons = {}
    is_outside = _is_outside_stay(grid)
    if task.at_hours is not None:
        asked_at = grid.admitted + from_hours(task.at_hours)
        is_too_short = grid.per_row(grid.ended < asked_at)
        is_outside |= is_too_short
        reasons[Exclusion.not_asked] = (grid.predicted_at != grid.per_row(asked_at)) & ~is_too_short
    reasons[Exclusion.outside_stay] = is_outside
    reasons[Exclusion.after_comfort_measures] = grid.predicted_at > grid.per_row(
        grid.comfort_measures
    )
    if not is_state:
        reasons[Exclusion.present_on_admission] = _is_present_on_admission(grid, all_episodes)
        reasons[Exclusion.after_onset] = _is_after_onset(grid, responses)
    if task.censor is not Censor.keep:
        reasons[Exclusion.incomplete_window] = _is_incomplete(grid, task.horizon)
    excluded = np.select(list(reasons.values()), list(reasons), default=Exclusion.none)
    in_state = _is_in_state(grid, all_episodes)
    return Targets(y.astype(np.int8), excluded.astype(np.int8), in_state)


def _is_in_window(grid: Grid, episodes: Episodes, horizon: int | None) -> Bools:
    """Rows whose window overlaps an episode: onset <= t(k + horizon), and p(k) < end."""
    first = grid.first[episodes.stay]
    if horizon is not None:
        first = grid.step_of(episodes.stay, episodes.onset) - horizon
    stop = grid.cell(episodes.stay, episodes.end)
    return grid.cover(grid.row(episodes.stay, first), grid.row(episodes.stay, stop))


def _is_in_state(grid: Grid, episodes: Episodes) -> Bools:
    """Rows with onset <= p(k) < end of an episode."""
    first = grid.cell(episodes.stay, episodes.onset)
    stop = grid.cell(episodes.stay, episodes.end)
    return grid.cover(grid.row(episodes.stay, first), grid.row(episodes.stay, stop))


def _is_outside_stay(grid: Grid) -> Bools:
    """Rows with p(k) before the record starts, or after discharge or death."""
    is_before = grid.predicted_at < grid.per_row(grid.record_start)
    return np.asarray(is_before | (grid.predicted_at > grid.per_row(grid.ended)))


def _is_present_on_admission(grid: Grid, episodes: Episodes) -> Bools:
    """All rows of the stays with an episode that was present on admission."""
    is_present = np.zeros(len(grid.stay_id), np.bool_)
    is_present[episodes.stay[episodes.present_on_admission]] = True
    return grid.per_row(is_present)


def _is_after_onset(grid: Grid, episodes: Episodes) -> Bools:
    """Rows with p(k) at or after the onset of an episode."""
    first = grid.cell(episodes.stay, episodes.onset)
    return grid.cover(grid.row(episodes.stay, first), grid.offsets[episodes.stay + 1])


def _is_incomplete(grid: Grid, horizon: int | None) -> Bools:
    """Rows whose window ends after the stay, or after the last question."""
    if horizon is None:
        return np.zeros(grid.rows, np.bool_)
    observed_until = np.minimum(grid.ended, grid.comfort_measures)
    return np.asarray(grid.window_end(horizon) > grid.per_row(observed_until))
