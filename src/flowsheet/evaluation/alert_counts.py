"""What raised alerts cost and find, by subject and by episode.

An *onset* is a stretch of scored rows of a stay, not in the state, whose target window holds it
(y = 1). It is *found* when an alert is raised on one of them: at a time at which the model had
announced it for the window ahead. An alert before that is false, and does not find it. A stay may
have several onsets: no stretch is longer than the horizon, so that a longer one is of several.

Alerts per patient-day are of all scored rows. The PPV is of the alerts on rows of patients who are
not in the state: an alert about a patient who is septic already is neither right nor false, but it
costs. Rows count by their weights, onsets once each.

The lead time runs from the first alert in the window to the onset, dated to the end of its step.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from flowsheet.config import TaskConfig
from flowsheet.evaluation.alert_policy import DAY
from flowsheet.typing import Bools, Floats, Ints
from flowsheet.windows.sequences import Sequences


@dataclass(frozen=True)
class AlertCounts:
    """Counts of S subjects, each of shape (S,), and the lead times of the found onsets."""

    days: Floats
    """Patient-days of the scored rows; 0 where the task has no steps of a constant length."""
    alerts: Floats
    """Raised alerts on scored rows."""
    judged_alerts: Floats
    """Those on rows of patients who are not in the state."""
    right_alerts: Floats
    """Those of them with y = 1."""
    onsets: Floats
    found: Floats
    lead_hours: Floats
    """(F,) of the found onsets; NaN where the onset has no date."""


@dataclass(frozen=True)
class OnsetWindows:
    """The rows at which the onsets of some stays can be found."""

    sequences: Sequences
    task: TaskConfig

    @cached_property
    def is_judged(self) -> Bools:
        """(N,) scored rows of patients who are not in the state."""
        return np.asarray(self.sequences.scored) & ~np.asarray(self.sequences.in_state)

    @cached_property
    def onset(self) -> Ints:
        """(N,) the number of the onset in the row's window, from 0 on; -1: none."""
        numbers = np.full(self.sequences.rows, -1)
        rows = np.flatnonzero(np.asarray(self.sequences.scored))
        is_positive = self.is_judged[rows] & (np.asarray(self.sequences.y)[rows] == 1)
        if not is_positive.any():
            return numbers
        stay, step = self.sequences.row_stay[rows], np.asarray(self.sequences.step)[rows]
        begins = is_positive.copy()
        begins[1:] &= ~(is_positive[:-1] & (stay[1:] == stay[:-1]))
        stretch = np.cumsum(begins)[is_positive] - 1
        first_step = step[begins][stretch]
        width = np.inf if self.task.horizon is None else max(self.task.horizon, 1)
        part = (step[is_positive] - first_step) // width
        is_next = np.diff(stretch, prepend=-1).astype(bool) | np.diff(part, prepend=0).astype(bool)
        numbers[rows[is_positive]] = np.cumsum(is_next) - 1
        return numbers

    @cached_property
    def first_rows(self) -> Ints:
        """(E,) the first row of each onset's window."""
        return np.unique(self.onset, return_index=True)[1][int((self.onset < 0).any()) :]

    @cached_property
    def onset_steps(self) -> Floats:
        """(E,) the step in which each onset falls; infinite where it has no date."""
        ahead = np.inf if self.task.horizon is None else float(self.task.horizon)
        dated = np.asarray(self.sequences.step, np.float64)[self.first_rows] + ahead
        return np.minimum(dated, self._next_steps_in_state())

    def _next_steps_in_state(self) -> Floats:
        """(E,) the first step in the state after the window begins, infinite where there is none.

        A window that begins with the stay may have its onset sooner than the horizon.
        """
        in_state = np.flatnonzero(np.asarray(self.sequences.in_state))
        position = np.searchsorted(in_state, self.first_rows)
        steps = np.full(len(position), np.inf)
        if not len(in_state):
            return steps
        row = in_state[np.minimum(position, len(in_state) - 1)]
        stay = self.sequences.row_stay
        is_same = (position < len(in_state)) & (stay[row] == stay[self.first_rows])
        steps[is_same] = np.asarray(self.sequences.step, np.float64)[row[is_same]]
        return steps

    @cached_property
    def _subject_of_row(self) -> Ints:
        subject = np.unique(self.sequences.subject_id, return_inverse=True)[1]
        return np.asarray(subject)[self.sequences.row_stay]

    def count(self, is_raised: Bools) -> AlertCounts:
        """What these alerts (N,) cost and find."""
        scored = np.asarray(self.sequences.scored)
        judged = self.is_judged & is_raised
        positive = np.asarray(self.sequences.y) == 1
        found = np.zeros(len(self.first_rows))
        found[self.onset[judged & positive]] = 1
        step_days = 0.0 if self.task.at_hours is not None else self.task.step_hours / DAY
        return AlertCounts(
            days=step_days * self._by_subject(scored),
            alerts=self._by_subject(scored & is_raised),
            judged_alerts=self._by_subject(judged),
            right_alerts=self._by_subject(judged & positive),
            onsets=self._onsets_by_subject(np.ones(len(found))),
            found=self._onsets_by_subject(found),
            lead_hours=self._lead_hours(judged & positive),
        )

    def _by_subject(self, rows: Bools) -> Floats:
        """The weighted number of rows of each subject."""
        weight = self.sequences.weight
        values = rows * (1.0 if weight is None else np.where(rows, np.asarray(weight), 0.0))
        counts = np.bincount(self._subject_of_row, values, minlength=self._n_subjects)
        return counts.astype(np.float64)

    def _onsets_by_subject(self, values: Floats) -> Floats:
        subject = self._subject_of_row[self.first_rows]
        return np.bincount(subject, values, minlength=self._n_subjects).astype(np.float64)

    @property
    def _n_subjects(self) -> int:
        return len(np.unique(self.sequences.subject_id))

    def _lead_hours(self, right_alerts: Bools) -> Floats:
        """Hours from the first alert in each found onset's window to the onset."""
        rows = np.flatnonzero(right_alerts)
        onset, first = np.unique(self.onset[rows], return_index=True)
        alert_step = np.asarray(self.sequences.step, np.float64)[rows[first]]
        ahead = self.onset_steps[onset] - alert_step
        task = self.task
        rest_of_step = 0.0 if task.cutoff_hours is None else task.step_hours - task.cutoff_hours
        return np.where(np.isfinite(ahead), ahead * task.step_hours + rest_of_step, np.nan)
