"""How much a model's score depended on each of the tuned parameters."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import optuna
import polars as pl
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from flowsheet.config import Choice, IntRange, ModelConfig, Range
from flowsheet.tuning.records import TrialRecord, TrialState
from flowsheet.tuning.space import resolve

IMPORTANCE: dict[str, pl.DataType] = {"parameter": pl.String(), "importance": pl.Float64()}

MIN_TRIALS = 6
MIN_TRIALS_PER_PARAMETER = 2
"""Complete trials needed: at least six, and two for each tuned parameter."""


@dataclass(frozen=True)
class Importance:
    """Shares of the score's variance over the search space, the largest first; they sum to 1."""

    table: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=IMPORTANCE))
    """parameter, importance; empty if it cannot be estimated."""
    reason_unavailable: str = ""
    """Why it cannot be estimated."""


def importance(
    kind: str, config: ModelConfig, trials: Sequence[TrialRecord], seed: int
) -> Importance:
    """fANOVA over the complete trials (Hutter, Hoos and Leyton-Brown 2014, ICML), seeded.

    A random forest predicts the score from the parameters, and its variance is divided among them.
    It is a hint only: the search samples regions of good scores more densely than the rest.

    Args:
        kind: A registered model.
        config: Its configuration, from which the search space follows.
        trials: The finished trials.
        seed: Seed of the forest.
    """
    ranges = resolve(kind, config).ranges
    complete = [t for t in trials if t.state is TrialState.complete and t.value is not None]
    if reason := _reason_unavailable(ranges, complete):
        return Importance(reason_unavailable=reason)
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        importances = optuna.importance.get_param_importances(
            _study(ranges, complete), evaluator=evaluator
        )
    ordered = sorted(importances.items(), key=lambda item: (-item[1], item[0]))
    return Importance(pl.DataFrame(ordered, schema=IMPORTANCE, orient="row"))


def _reason_unavailable(ranges: dict[str, Range], complete: Sequence[TrialRecord]) -> str:
    needed = max(MIN_TRIALS, MIN_TRIALS_PER_PARAMETER * len(ranges))
    if not ranges:
        return "nothing was tuned"
    if len(complete) < needed:
        tuned = "1 parameter" if len(ranges) == 1 else f"{len(ranges)} parameters"
        return f"{len(complete)} complete trials; at least {needed} are needed for {tuned}"
    if len({t.value for t in complete}) == 1:
        return "all complete trials have the same score"
    return ""


def _study(ranges: dict[str, Range], trials: Sequence[TrialRecord]) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    distributions = {name: _distribution(space) for name, space in ranges.items()}
    study = optuna.create_study(direction="maximize")
    for trial in trials:
        params = {name: trial.params[name] for name in ranges}
        study.add_trial(
            optuna.trial.create_trial(params=params, distributions=distributions, value=trial.value)
        )
    return study


def _distribution(space: Range) -> BaseDistribution:
    if isinstance(space, Choice):
        return CategoricalDistribution(space.of)
    if isinstance(space, IntRange):
        return IntDistribution(space.low, space.high, log=space.log, step=space.step)
    return FloatDistribution(space.low, space.high, log=space.log)
