"""From which probability on a model rings: chosen on development data, never on the test split."""

from __future__ import annotations

import numpy as np

from flowsheet.config import EvaluationConfig, TaskConfig
from flowsheet.evaluation.folds import ModelPredictions
from flowsheet.evaluation.metrics import ScoredRows
from flowsheet.evaluation.metrics.normalised_utility import RowUtility
from flowsheet.evaluation.subsets import Subset, has_utility
from flowsheet.evaluation.subsets import scored as scored_rows
from flowsheet.typing import AnyArray, Floats
from flowsheet.windows.sequences import Sequences

NEVER = float(np.nextafter(1.0, 2.0))
"""A threshold that no probability reaches."""


def choose_threshold(
    development: Sequences, p: Floats, task: TaskConfig, config: EvaluationConfig
) -> float:
    """The threshold on probabilities ``p`` (N,) that is best on the scored rows of ``development``.

    Best is the utility where the task has one, the F-measure otherwise; a row rings when p >=
    threshold.
    """
    scored = scored_rows(
        development, Subset("all", np.asarray(development.scored)), ModelPredictions(p), config
    )
    return best_by_utility(scored) if has_utility(task) else best_by_f_measure(scored)


def best_by_utility(scored: ScoredRows) -> float:
    """The threshold with the highest normalised utility; above 1 when no alarm is worth it."""
    worth = RowUtility.from_rows(scored)
    at, (gain,) = _at_or_above(scored, worth.alarm - worth.silent)
    return float(at[gain.argmax()]) if len(at) and gain.max() > 0 else NEVER


def best_by_f_measure(scored: ScoredRows) -> float:
    """The threshold with the highest F-measure; above 1 when there is nothing to find."""
    at, (hits, alarms) = _at_or_above(scored, scored.y, np.ones(len(scored.y)))
    return float(at[(2 * hits / (alarms + scored.events)).argmax()]) if scored.events else NEVER


def _at_or_above(scored: ScoredRows, *values: AnyArray) -> tuple[Floats, list[Floats]]:
    """The distinct probabilities, highest first, and the sum of each of ``values`` over the rows that reach them."""
    at, place = np.unique(-scored.p, return_inverse=True)
    return -at, [np.cumsum(np.bincount(place, each, minlength=len(at))) for each in values]
