"""Which trials end early: by the median, by successive halving, or by Hyperband.

Successive halving (ASHA; Li et al. 2020, MLSys) compares the trials that have come as far as a
rung, and only the best 1 in ``reduction_factor`` go on to the next rung, which takes
``reduction_factor`` times as long. Hyperband (Li et al. 2018, JMLR 18:185) runs it in brackets,
whose first rungs are at different lengths: trials of one bracket are compared with each other.

An interrupted trial and its repetition count as one, so that a resumed search prunes like an
uninterrupted one. Optuna's own Hyperband takes the bracket of a trial from its number, in which
interrupted trials count, and the longest trial from those that have ended when it is created.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Container
from typing import Any

import optuna
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.trial import FrozenTrial, TrialState

from flowsheet.config import Pruner, TuningConfig
from flowsheet.state.hashing import digest

WARM_UP_STEPS = 2
"""No trial is pruned in its first steps: their scores say little."""


def is_interrupted(trial: FrozenTrial) -> bool:
    """Whether a trial ended without a result, and is repeated by another one."""
    return trial.state is TrialState.FAIL and "error" not in trial.user_attrs


def make_pruner(tuning: TuningConfig) -> BasePruner:
    """The pruner that the configuration chooses."""
    if tuning.pruner is Pruner.none:
        return NopPruner()
    warm_up = 0 if tuning.partial_data else WARM_UP_STEPS
    if tuning.pruner is Pruner.median:
        return MedianPruner(n_startup_trials=tuning.startup_trials, n_warmup_steps=warm_up)
    has_brackets = tuning.pruner is Pruner.hyperband
    return HalvingPruner(tuning.reduction_factor, 1 + warm_up, has_brackets=has_brackets)


class HalvingPruner(BasePruner):
    """Successive halving of the trials that were not interrupted, in one or several brackets."""

    def __init__(self, reduction_factor: int, first_rung: int, *, has_brackets: bool) -> None:
        """Compare trials first at the step ``first_rung``."""
        self.reduction_factor = reduction_factor
        self.first_rung = first_rung
        self.has_brackets = has_brackets

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether the trial is not among the best at the rung that it has reached."""
        trials = [t for t in study.get_trials(deepcopy=False) if not is_interrupted(t)]
        brackets = self._assign_brackets(study, trials)
        bracket = brackets[trial.number]
        halving = SuccessiveHalvingPruner(
            min_resource=self.first_rung,
            reduction_factor=self.reduction_factor,
            min_early_stopping_rate=bracket,
        )
        view = _limit(study, lambda other: brackets.get(other.number) == bracket)
        return halving.prune(view, trial)

    def _assign_brackets(self, study: optuna.Study, trials: list[FrozenTrial]) -> dict[int, int]:
        """{number of a trial: its bracket}; only the first until a trial has completed."""
        weights = self._weigh_brackets(trials)
        order = sorted(trial.number for trial in trials)
        return {
            number: _choose(weights, digest([study.study_name, position]))
            for position, number in enumerate(order)
        }

    def _weigh_brackets(self, trials: list[FrozenTrial]) -> list[int]:
        """How many trials each bracket gets in proportion: as many as take equal time.

        The longest rung is that of the first complete trial, which has the default parameters.
        """
        ends = [t.last_step for t in trials if t.state is TrialState.COMPLETE]
        longest = next((end for end in ends if end is not None), None)
        if not self.has_brackets or longest is None or longest < self.first_rung:
            return [1]
        n = math.floor(math.log(longest / self.first_rung, self.reduction_factor) + 1e-9) + 1
        return [
            math.ceil(n * self.reduction_factor ** (n - 1 - bracket) / (n - bracket))
            for bracket in range(n)
        ]


def _choose(weights: list[int], key: str) -> int:
    """A position, with a probability in proportion to its weight; the same for the same key."""
    remaining = int(key[:16], 16) % sum(weights)
    for position, weight in enumerate(weights):
        if remaining < weight:
            return position
        remaining -= weight
    raise AssertionError


def _limit(study: optuna.Study, is_included: Callable[[FrozenTrial], bool]) -> optuna.Study:
    """The study with some of its trials alone, as a pruner sees it."""
    view = copy.copy(study)

    def get_trials(
        deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        return [trial for trial in study.get_trials(deepcopy, states) if is_included(trial)]

    limited: Any = view
    limited.get_trials = get_trials
    return view
