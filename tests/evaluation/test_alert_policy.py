"""Alerts are silenced after earlier ones of the stay, and never by later rows."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from flowsheet.config import AlertingConfig, TaskConfig
from flowsheet.evaluation.alert_judgement import describe_policy
from flowsheet.evaluation.alert_policy import NEVER_ALERT, AlertPolicy, make_policies, raise_alerts

HOURLY = TaskConfig(name="hourly", step_hours=1, horizon=6)
DAILY = TaskConfig(name="daily")
ONCE = TaskConfig(name="once", step_hours=1, horizon=None, at_hours=24)


def raise_naively(policy, hours, stay, risk):
    """One row after the other, as somebody at the bedside would."""
    raised = []
    for row, time in enumerate(hours):
        before = [hours[r] for r in raised if stay[r] == stay[row]]
        silence = max(policy.silence_hours, policy.acknowledged_hours or 0)
        is_silent = any(time - earlier < silence for earlier in before)
        today = sum(time - earlier < 24 for earlier in before)
        cap = policy.max_alerts_per_day
        if risk[row] >= policy.threshold and not is_silent and (cap is None or today < cap):
            raised.append(row)
    return np.isin(np.arange(len(hours)), raised)


@st.composite
def stays(draw):
    lengths = draw(st.lists(st.integers(1, 60), min_size=1, max_size=4))
    step = np.concatenate([np.arange(1, n + 1) for n in lengths])
    stay = np.repeat(np.arange(len(lengths)) * 7 + 3, lengths)
    seed = draw(st.integers(0, 2**31))
    return stay, step, np.random.default_rng(seed).random(len(step))


policies = st.builds(
    AlertPolicy,
    threshold=st.sampled_from([0.0, 0.3, 0.7, NEVER_ALERT]),
    silence_hours=st.sampled_from([0.0, 1.0, 2.5, 6.0, 30.0]),
    acknowledged_hours=st.sampled_from([None, 4.0, 40.0]),
    max_alerts_per_day=st.sampled_from([None, 1, 3]),
)


@given(stays=stays(), policy=policies, task=st.sampled_from([HOURLY, DAILY]))
def test_alerts_are_those_of_somebody_who_counts_at_the_bedside(stays, policy, task):
    stay, step, risk = stays
    raised = raise_alerts(policy, task, stay, step, risk)
    naive = raise_naively(policy, step * task.step_hours, stay, risk)
    assert np.array_equal(raised, naive)


@given(stays=stays(), policy=policies, n=st.integers(0, 60))
def test_no_later_row_changes_an_alert(stays, policy, n):
    stay, step, risk = stays
    raised = raise_alerts(policy, HOURLY, stay, step, risk)
    so_far = step <= n
    early = raise_alerts(policy, HOURLY, stay[so_far], step[so_far], risk[so_far])
    assert np.array_equal(early, raised[so_far])


def test_an_alert_that_was_acknowledged_silences_from_then_on():
    stay, step, risk = np.full(12, 5), np.arange(1, 13), np.ones(12)
    policy = AlertPolicy(threshold=0.5, silence_hours=2, acknowledged_hours=6)
    acknowledged = pl.DataFrame({"stay": [5, 6], "hours": [4.5, 0.0]})
    raised = raise_alerts(policy, HOURLY, stay, step, risk, acknowledged=acknowledged)
    assert step[raised].tolist() == [1, 3, 11]  # 5 to 10 are less than 6 h after 4.5
    at_once = raise_alerts(policy, HOURLY, stay, step, risk)
    assert step[at_once].tolist() == [1, 7]


def test_an_endless_silence_leaves_one_alert_of_each_stay():
    stay, step = np.repeat([3, 5, 8], 4), np.tile(np.arange(1, 5), 3)
    raised = raise_alerts(
        AlertPolicy(threshold=0.5, silence_hours=np.inf), HOURLY, stay, step, stay
    )
    assert step[raised].tolist() == [1, 1, 1]


def test_an_acknowledgement_between_two_steps_silences_the_next_one():
    stay, step, risk = np.full(3, 5), np.arange(1, 4), np.ones(3)
    policy = AlertPolicy(threshold=0.5, acknowledged_hours=1)
    acknowledged = pl.DataFrame({"stay": [5], "hours": [1.5]})
    raised = raise_alerts(policy, HOURLY, stay, step, risk, acknowledged=acknowledged)
    assert step[raised].tolist() == [1, 3]


@pytest.mark.parametrize(
    ("task", "policy", "words"),
    [
        (DAILY, {"silence_hours": 6}, "With a prediction every 24 h no alert is silenced."),
        (DAILY, {"silence_hours": 24}, "no alert is silenced"),
        (DAILY, {"max_alerts_per_day": 1}, "no alert is silenced"),
        (ONCE, {"silence_hours": 48}, "asks once a stay: no alert is silenced"),
    ],
)
def test_a_silence_without_effect_is_stated(task, policy, words):
    policy = AlertPolicy(threshold=0.2, **policy)
    assert words in describe_policy(policy, task)
    risk = np.ones(5)
    assert raise_alerts(policy, task, np.zeros(5, int), np.arange(1, 6), risk).all()


def test_a_silence_with_an_effect_has_no_such_remark():
    assert "silenced" not in describe_policy(AlertPolicy(threshold=0.2, silence_hours=6), HOURLY)
    assert describe_policy(AlertPolicy(threshold=NEVER_ALERT)).startswith("No alert is raised")


def test_the_threshold_of_an_earlier_release_is_a_policy_without_silence():
    recorded = {"value": 0.25, "maximizes": "f_measure", "subset": "new_onsets"}
    policy = AlertPolicy.model_validate(recorded)
    assert policy == AlertPolicy(threshold=0.25, maximizes="f_measure", subset="new_onsets")
    assert make_policies({"a": 0.25})["a"].threshold == 0.25


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"threshold_by": "ppv"}, "needs a target"),
        ({"threshold_by": "ppv", "target": 20}, "share below 1"),
        ({"threshold_by": "sensitivity", "target": 1}, "share below 1"),
        ({"target": 0.2}, "balance has no target"),
        ({"silence_hours": 12, "acknowledged_hours": 6}, "at least silence_hours"),
        ({"max_alerts_per_day": 0}, "greater than or equal to 1"),
        ({"silence_hours": -1}, "greater than or equal to 0"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(values, reason):
    with pytest.raises(ValidationError, match=reason):
        AlertingConfig(**values)
