"""Which of the tuned parameters a model's score depended on."""

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

FEWEST = 6
PER_PARAMETER = 2
"""Complete trials that are needed: at least six, and two for each parameter that was tuned."""


@dataclass(frozen=True)
class Importance:
    """Shares of the score's variance over the search space, the largest first; they sum to 1."""

    table: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=IMPORTANCE))
    """parameter, importance; empty where nothing can be said."""
    left_out: str = ""
    """Why nothing can be said."""


def importance(
    kind: str, config: ModelConfig, trials: Sequence[TrialRecord], seed: int
) -> Importance:
    """fANOVA over the complete trials (Hutter, Hoos and Leyton-Brown 2014, ICML), seeded.

    A forest is fitted to score over parameters, and its variance split among them. Where the search
    went for good values it knows the rest of the space less well: read it as a hint.
    """
    ranges = resolve(kind, config).ranges
    complete = [t for t in trials if t.state is TrialState.complete and t.value is not None]
    if left_out := _why_not(ranges, complete):
        return Importance(left_out=left_out)
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        found = optuna.importance.get_param_importances(
            _study(ranges, complete), evaluator=evaluator
        )
    ordered = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    return Importance(pl.DataFrame(ordered, schema=IMPORTANCE, orient="row"))


def _why_not(ranges: dict[str, Range], complete: Sequence[TrialRecord]) -> str:
    needed = max(FEWEST, PER_PARAMETER * len(ranges))
    if not ranges:
        return "nothing was tuned"
    if len(complete) < needed:
        tuned = "1 parameter" if len(ranges) == 1 else f"{len(ranges)} parameters"
        return f"{len(complete)} complete trials; at least {needed} are needed for {tuned}"
    if len({t.value for t in complete}) == 1:
        return "all complete trials scored alike"
    return ""


def _study(ranges: dict[str, Range], trials: Sequence[TrialRecord]) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    distributions = {name: _distribution(space) for name, space in ranges.items()}
    study = optuna.create_study(direction="maximize")
    study.add_trials(
        [
            optuna.trial.create_trial(
                params={name: trial.params[name] for name in ranges},
                distributions=distributions,
                value=trial.value,
            )
            for trial in trials
        ]
    )
    return study


def _distribution(space: Range) -> BaseDistribution:
    if isinstance(space, Choice):
        return CategoricalDistribution(space.of)
    if isinstance(space, IntRange):
        return IntDistribution(space.low, space.high, log=space.log, step=space.step)
    return FloatDistribution(space.low, space.high, log=space.log)
