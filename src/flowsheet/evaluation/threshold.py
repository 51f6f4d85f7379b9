"""The decision threshold of a model: chosen on development data, never on the test split."""

from __future__ import annotations

from typing import Literal

import numpy as np

from flowsheet.config import EvaluationConfig, FrozenModel, TaskConfig
from flowsheet.evaluation.folds import ModelPredictions
from flowsheet.evaluation.metrics import ScoredRows
from flowsheet.evaluation.metrics.normalised_utility import RowUtility
from flowsheet.evaluation.subsets import ALL, Subset, has_utility, score_rows, select_judged_rows
from flowsheet.typing import AnyArray, Floats
from flowsheet.windows.sequences import Sequences

NEVER_ALERT = float(np.nextafter(1.0, 2.0))
"""A threshold that no probability reaches."""


class DecisionThreshold(FrozenModel):
    """The probability from which on a row raises an alert, and how it was chosen."""

    value: float
    maximizes: Literal["f_measure", "normalised_utility"]
    subset: str
    """The rows that it was chosen on: ``new_onsets`` or ``all`` (see ``subsets``)."""


def choose_threshold(
    development: Sequences, p: Floats, task: TaskConfig, config: EvaluationConfig
) -> DecisionThreshold:
    """The decision threshold that is best on ``development``.

    It maximizes the utility of all scored rows where the task has one, which is defined for whole
    stays, and otherwise the F-measure of the rows that models are judged by: new onsets where
    these are a part.

    Args:
        development: the development stays, N rows.
        p: the predicted probabilities of their rows, shape (N,).
        task: decides which measure is maximized.
        config: the least number of events for an estimate.
    """
    if has_utility(task):
        all_rows = Subset(ALL, np.asarray(development.scored))
        scored = score_rows(development, all_rows, ModelPredictions(p), config)
        value = maximize_utility(scored)
        return DecisionThreshold(value=value, maximizes="normalised_utility", subset=ALL)
    judged = select_judged_rows(development, config)
    scored = score_rows(development, judged, ModelPredictions(p), config)
    value = maximize_f_measure(scored)
    return DecisionThreshold(value=value, maximizes="f_measure", subset=judged.name)


def maximize_utility(scored: ScoredRows) -> float:
    """The threshold of the highest normalised utility; ``NEVER_ALERT`` if every one is negative."""
    utility = RowUtility.from_rows(scored)
    thresholds, (gain,) = _sums_at_or_above(scored, utility.alert - utility.silent)
    if not len(thresholds) or gain.max() <= 0:
        return NEVER_ALERT
    return float(thresholds[gain.argmax()])


def maximize_f_measure(scored: ScoredRows) -> float:
    """The threshold of the highest F-measure; ``NEVER_ALERT`` where there is no event."""
    n_rows = len(scored.y)
    thresholds, (true_alerts, alerts) = _sums_at_or_above(scored, scored.y, np.ones(n_rows))
    if not scored.n_events:
        return NEVER_ALERT
    f_measure = 2 * true_alerts / (alerts + scored.weigh(scored.y).sum())
    return float(thresholds[f_measure.argmax()])


def _sums_at_or_above(scored: ScoredRows, *values: AnyArray) -> tuple[Floats, list[Floats]]:
    """Weighted sums over the rows at or above each threshold.

    Returns:
        The distinct probabilities in descending order, and the sums of each of ``values``.
    """
    negated, index = np.unique(-scored.p, return_inverse=True)
    sums = [
        np.cumsum(np.bincount(index, scored.weigh(value), minlength=len(negated)), dtype=np.float64)
        for value in values
    ]
    return -negated, sums
