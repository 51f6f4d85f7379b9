"""The parameter that matters comes first, and too few trials give no estimate."""

import dataclasses

import numpy as np
import pytest

from flowsheet.config import ModelConfig
from flowsheet.tuning.importance import importance
from flowsheet.tuning.records import TrialRecord, TrialState

CONFIG = ModelConfig(
    kind="gradient_boosting",
    space={
        "learning_rate": {"type": "float", "low": 0.01, "high": 0.3, "log": True},
        "leaves": {"type": "int", "low": 4, "high": 64},
    },
)


def draw_trials(count, score, seed=0):
    rng = np.random.default_rng(seed)
    trials = []
    for number in range(count):
        learning_rate = float(np.exp(rng.uniform(np.log(0.01), np.log(0.3))))
        params = {"learning_rate": learning_rate, "leaves": int(rng.integers(4, 65))}
        state = TrialState.complete
        trials.append(TrialRecord(number, state, params, score(params), 1.0, {}))
    return trials


def score_of_learning_rate(params):
    return -abs(np.log(params["learning_rate"] / 0.05)) + params["leaves"] / 10_000


def compute(trials, config=CONFIG):
    return importance("gradient_boosting", config, trials, seed=1)


def test_the_parameter_that_matters_comes_first():
    result = compute(draw_trials(60, score_of_learning_rate))
    assert result.reason_unavailable == ""
    assert result.table["parameter"].to_list() == ["learning_rate", "leaves"]
    assert result.table["importance"][0] > 0.7
    assert result.table["importance"].sum() == pytest.approx(1)


def test_the_same_trials_and_seed_give_the_same_figures():
    trials = draw_trials(12, score_of_learning_rate)
    assert compute(trials).table.equals(compute(trials).table)


def test_only_complete_trials_count():
    complete = draw_trials(12, score_of_learning_rate)
    pruned = [
        dataclasses.replace(trial, state=TrialState.pruned)
        for trial in draw_trials(9, score_of_learning_rate, seed=4)
    ]
    assert compute([*complete, *pruned]).table.equals(compute(complete).table)


def test_too_few_trials_give_no_estimate_and_the_reason():
    few = compute(draw_trials(5, score_of_learning_rate))
    assert few.table.is_empty()
    expected = "5 complete trials; at least 6 are needed for 2 parameters"
    assert few.reason_unavailable == expected


def test_equal_scores_give_no_estimate_and_the_reason():
    equal = compute(draw_trials(8, lambda params: 0.5))
    assert equal.reason_unavailable == "all complete trials have the same score"


def test_fixed_parameters_give_no_estimate_and_the_reason():
    fixed = ModelConfig(kind="gradient_boosting", space={})
    result = compute(draw_trials(8, score_of_learning_rate), fixed)
    assert result.reason_unavailable == "nothing was tuned"
