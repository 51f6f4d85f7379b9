"""The decision threshold is the best one on the rows that it is chosen on."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowsheet.config import AlertingConfig, EvaluationConfig, TaskConfig
from flowsheet.evaluation.metrics import ScoredRows, get_metric
from flowsheet.evaluation.threshold import (
    NEVER_ALERT,
    choose_policy,
    maximize_f_measure,
    maximize_utility,
)

STANDARD = AlertingConfig()


def simulate_hourly_stays(seed, prevalence):
    """Six stays of 20 hours."""
    rng = np.random.default_rng(seed)
    stay = np.repeat(np.arange(6), 20)
    step = np.tile(np.arange(1, 21), 6)
    onset = np.where(rng.random(6) < prevalence, rng.integers(1, 25, 6), 99)
    y = (step >= onset[stay]).astype(np.int8)
    p = np.round(np.clip(rng.random(120) * 0.8 + 0.2 * y, 0, 1), 1)
    return ScoredRows(y, p, stay, stay, step, 6, has_whole_stays=True)


def with_alerts(scored, threshold):
    return dataclasses.replace(scored, is_alert=scored.p >= threshold)


@pytest.mark.parametrize(
    ("name", "maximize"),
    [("normalised_utility", maximize_utility), ("f_measure", maximize_f_measure)],
)
@given(seed=st.integers(0, 2**31))
def test_no_other_threshold_is_better(name, maximize, seed):
    scored = simulate_hourly_stays(seed, 0.7)
    if not scored.n_events:
        return
    metric = get_metric(name)
    thresholds = [*np.unique(scored.p), NEVER_ALERT]
    best = max(metric(with_alerts(scored, threshold)) for threshold in thresholds)
    assert metric(with_alerts(scored, maximize(scored))) >= best - 1e-12


def test_without_events_no_row_raises_an_alert():
    scored = simulate_hourly_stays(1, 0.0)
    assert scored.n_events == 0
    assert maximize_utility(scored) == NEVER_ALERT
    assert maximize_f_measure(scored) == NEVER_ALERT
    assert not (scored.p >= NEVER_ALERT).any()


def test_the_task_decides_what_is_maximized(sequences, predictions):
    config = EvaluationConfig(name="small")
    daily_task = TaskConfig(name="daily")
    hourly_task = TaskConfig(name="early", step_hours=1, horizon=6, censor="keep")
    daily = choose_policy(sequences, predictions["accurate"], daily_task, config, STANDARD)
    hourly = choose_policy(
        sequences, predictions["accurate"], hourly_task, config, AlertingConfig()
    )
    assert 0 < daily.threshold < 1
    assert daily != hourly
    assert (daily.maximizes, hourly.maximizes) == ("f_measure", "normalised_utility")


def test_the_threshold_of_a_state_task_is_chosen_on_new_onsets(sequences, predictions):
    """Patients who are in the state already do not move it; with too few onsets all rows do."""
    task = TaskConfig(name="daily")
    config = EvaluationConfig(name="small", minimum_events=1)
    p = predictions["accurate"]
    chosen = choose_policy(sequences, p, task, config, STANDARD)
    assert chosen.subset == "new_onsets"
    in_state = np.asarray(sequences.in_state)
    assert in_state.any()
    flipped = np.where(in_state, 1 - p, p)
    assert choose_policy(sequences, flipped, task, config, STANDARD) == chosen
    new_onsets = sequences.scored & ~in_state
    rows = ScoredRows.from_arrays(sequences.y[new_onsets], p[new_onsets])
    assert chosen.threshold == maximize_f_measure(rows)
    few = EvaluationConfig(name="few", minimum_events=10**6)
    assert choose_policy(sequences, p, task, few, STANDARD).subset == "all"
