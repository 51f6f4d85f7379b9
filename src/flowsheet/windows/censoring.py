"""Weights with which complete windows stand for those that the end of the stay cuts.

With ``censor: competing`` only rows with a complete window are scored. Patients whose stay is about
to end, by discharge or death, are then too few among the scored rows. So each of these counts in
metrics with the inverse of its probability to have a complete window (inverse probability of
censoring weighting; Robins and Finkelstein 2000, doi 10.1111/j.0006-341X.2000.00779.x). Metrics
then estimate what they would be if every patient stayed for the whole window, provided that, within
a stratum, leaving does not depend on the outcome.

The strata are the step and whether the patient is in the state at the prediction. The probability
is the Kaplan-Meier estimate of staying from p(k) to the end of the window: as the end of every stay
is observed, that is the share of complete windows among the rows of the stratum that are asked
about. It is estimated on training subjects only. Neighbouring steps are pooled until they have
``MIN_ROWS`` rows.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from flowsheet.config import Censor, FrozenModel, TaskConfig
from flowsheet.typing import Bools, Floats, Ints, Ints32
from flowsheet.windows.sequences import Sequences
from flowsheet.windows.task import Exclusion

MIN_ROWS = 100
"""Training rows that a probability is estimated from, where there are as many."""
MIN_PROBABILITY = 0.05
"""A lower probability counts as this one, so that no row stands for more than 20."""


def weight_rows(sequences: Sequences, train: Sequences, task: TaskConfig) -> Sequences:
    """The sequences with the weight of each row; 0 where it is not scored.

    Args:
        sequences: The stays to weight.
        train: The stays of the training subjects.
        task: Every scored row counts once unless its ``censor`` is ``competing``.
    """
    return apply_weights(sequences, estimate_completeness(train, task))


def estimate_completeness(stays: Sequences, task: TaskConfig) -> Completeness | None:
    """The probabilities of complete windows; None unless the task weights rows by them."""
    return Completeness.fit(stays) if task.censor is Censor.competing else None


def apply_weights(sequences: Sequences, completeness: Completeness | None) -> Sequences:
    """The sequences with the weight of each row; without ``completeness``, 1 where it is scored."""
    weight = np.asarray(sequences.scored, np.float64)
    if completeness is not None:
        weight = weight / completeness.predict(sequences)
    return replace(sequences, weight=weight)


class CompletenessByStep(FrozenModel):
    """The share of complete windows in each of B bins of neighbouring steps."""

    last_step: tuple[int, ...]
    """Ascending; steps after the last belong to the last bin."""
    share: tuple[float, ...]

    @classmethod
    def fit(cls, step: Ints, is_complete: Bools) -> CompletenessByStep:
        """The shares over training rows; 1 without any row."""
        last_step = _pool_steps(np.bincount(step))
        bins = np.minimum(np.searchsorted(last_step, step), len(last_step) - 1)
        n_rows = np.bincount(bins, minlength=len(last_step))
        n_complete = np.bincount(bins, is_complete, minlength=len(last_step))
        share = np.divide(n_complete, n_rows, out=np.ones(len(last_step)), where=n_rows > 0)
        share = np.maximum(share, MIN_PROBABILITY)
        return cls(last_step=tuple(last_step.tolist()), share=tuple(share.tolist()))

    def predict(self, step: Ints32) -> Floats:
        """The share at each step, shape of ``step``."""
        bins = np.minimum(np.searchsorted(self.last_step, step), len(self.last_step) - 1)
        return np.asarray(np.array(self.share)[bins])


class Completeness(FrozenModel):
    """The probability of a complete window by step, of patients in the state and of the others."""

    in_state: CompletenessByStep
    others: CompletenessByStep

    @classmethod
    def fit(cls, stays: Sequences) -> Completeness:
        """Estimate it from the rows that are asked about."""
        asked = np.isin(_excluded(stays), (Exclusion.none, Exclusion.incomplete_window))

        def fit_stratum(*, state: bool) -> CompletenessByStep:
            of_stratum = asked & (stays.in_state == state)
            rows = of_stratum if of_stratum.any() else asked
            return CompletenessByStep.fit(np.asarray(stays.step[rows]), stays.scored[rows])

        return cls(in_state=fit_stratum(state=True), others=fit_stratum(state=False))

    def predict(self, sequences: Sequences) -> Floats:
        """The probability of each row to have a complete window, shape (N,)."""
        step = np.asarray(sequences.step)
        in_state = self.in_state.predict(step)
        return np.where(sequences.in_state, in_state, self.others.predict(step))


def _pool_steps(rows_of_step: Ints) -> Ints:
    """The last step of each bin: bins are closed as soon as they have ``MIN_ROWS`` rows.

    >>> _pool_steps(np.array([0, 150, 60, 30, 20, 40]))
    array([1, 5])
    """
    last_steps = []
    count = 0
    for step, n_rows in enumerate(rows_of_step.tolist()):
        count += n_rows
        if count >= MIN_ROWS:
            last_steps.append(step)
            count = 0
    last = max(len(rows_of_step) - 1, 0)
    return np.array([*last_steps[:-1], last], np.int64)


def _excluded(sequences: Sequences) -> Ints:
    if sequences.excluded is None:
        raise ValueError("the sequences do not know why rows are not scored")
    return np.asarray(sequences.excluded, np.int64)
