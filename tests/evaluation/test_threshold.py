"""The threshold is the best there is, and development data's."""

import dataclasses

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flowsheet.config import EvaluationConfig, TaskConfig
from flowsheet.evaluation.metrics import METRICS
from flowsheet.evaluation.metrics.base import ScoredRows
from flowsheet.evaluation.threshold import (
    NEVER,
    best_by_f_measure,
    best_by_utility,
    choose_threshold,
)

from .conftest import make_predictions, make_ward


def stays(seed, prevalence):
    rng = np.random.default_rng(seed)
    stay = np.repeat(np.arange(6), 20)
    step = np.tile(np.arange(1, 21), 6)
    onset = np.where(rng.random(6) < prevalence, rng.integers(1, 25, 6), 99)
    y = (step >= onset[stay]).astype(np.int8)
    p = np.round(np.clip(rng.random(120) * 0.8 + 0.2 * y, 0, 1), 1)
    return ScoredRows(y, p, stay, stay, step, 6, whole_stays=True)


def ring(scored, threshold):
    return dataclasses.replace(scored, alarm=scored.p >= threshold, _cache={})


@given(seed=st.integers(0, 2**31))
def test_no_other_threshold_does_better(seed):
    scored = stays(seed, 0.7)
    for name, choose in (("normalised_utility", best_by_utility), ("f_measure", best_by_f_measure)):
        metric = METRICS.get(name)()
        every = (
            [metric(ring(scored, t)) for t in [*np.unique(scored.p), NEVER]]
            if scored.events
            else []
        )
        if every:
            assert metric(ring(scored, choose(scored))) >= max(every) - 1e-12


def test_silence_where_no_alarm_is_worth_it():
    scored = stays(1, 0.0)
    assert scored.events == 0
    assert best_by_utility(scored) == NEVER
    assert best_by_f_measure(scored) == NEVER
    assert not (scored.p >= NEVER).any()


def test_the_task_decides_what_is_best():
    sequences, signal = make_ward()
    p = make_predictions(signal)["sharp"]
    config = EvaluationConfig(name="small")
    daily = choose_threshold(sequences, p, TaskConfig(name="daily"), config)
    hourly = choose_threshold(
        sequences, p, TaskConfig(name="early", step_hours=1, horizon=6, censor="keep"), config
    )
    assert 0 < daily < 1
    assert daily != hourly
