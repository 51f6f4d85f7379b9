"""The parameter that matters comes first, and too few trials say nothing."""

import dataclasses

import numpy as np
import pytest

from flowsheet.config import ModelConfig
from flowsheet.tuning.importance import importance
from flowsheet.tuning.records import TrialRecord, TrialState

TREES = ModelConfig(
    kind="gradient_boosting",
    space={
        "learning_rate": {"type": "float", "low": 0.01, "high": 0.3, "log": True},
        "leaves": {"type": "int", "low": 4, "high": 64},
    },
)


def trials(count, score, seed=0):
    rng = np.random.default_rng(seed)
    drawn = [
        {
            "learning_rate": float(np.exp(rng.uniform(np.log(0.01), np.log(0.3)))),
            "leaves": int(rng.integers(4, 65)),
        }
        for _ in range(count)
    ]
    return [TrialRecord(i, TrialState.complete, p, score(p), 1.0, {}) for i, p in enumerate(drawn)]


def by_rate(params):
    return -abs(np.log(params["learning_rate"] / 0.05)) + params["leaves"] / 10_000


def test_what_matters_comes_first():
    found = importance("gradient_boosting", TREES, trials(60, by_rate), seed=1)
    assert found.left_out == ""
    assert found.table["parameter"].to_list() == ["learning_rate", "leaves"]
    assert found.table["importance"][0] > 0.7
    assert found.table["importance"].sum() == pytest.approx(1)


def test_the_same_trials_and_seed_give_the_same_figures():
    some = trials(12, by_rate)
    first, again = (importance("gradient_boosting", TREES, some, seed=1).table for _ in range(2))
    assert first.equals(again)


def test_trials_that_are_not_complete_count_for_nothing():
    some = trials(12, by_rate)
    cut = [dataclasses.replace(t, state=TrialState.pruned) for t in trials(9, by_rate, seed=4)]
    assert importance("gradient_boosting", TREES, [*some, *cut], seed=1).table.equals(
        importance("gradient_boosting", TREES, some, seed=1).table
    )


def test_too_little_is_said_with_its_reason():
    few = importance("gradient_boosting", TREES, trials(5, by_rate), seed=1)
    assert few.table.is_empty()
    assert few.left_out == "5 complete trials; at least 6 are needed for 2 parameters"
    alike = importance("gradient_boosting", TREES, trials(8, lambda params: 0.5), seed=1)
    assert alike.left_out == "all complete trials scored alike"
    fixed = ModelConfig(kind="gradient_boosting", space={})
    assert (
        importance("gradient_boosting", fixed, trials(8, by_rate), seed=1).left_out
        == "nothing was tuned"
    )
