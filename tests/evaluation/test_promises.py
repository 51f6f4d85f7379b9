"""Bounds of ratios over subjects, tests in a fixed sequence, and promises that are kept."""

import numpy as np
import pytest
from scipy.stats import beta

from flowsheet.config import AlertingConfig, EvaluationConfig, TaskConfig, ThresholdBy
from flowsheet.errors import UsageError
from flowsheet.evaluation.alert_counts import OnsetWindows
from flowsheet.evaluation.alert_judgement import (
    KEPT,
    NOT_JUDGED,
    NOT_KEPT,
    NOT_MADE,
    AlertEstimate,
    judge_policies,
)
from flowsheet.evaluation.alert_policy import NEVER_ALERT, AlertPolicy
from flowsheet.evaluation.promises import Ratio, find_last_proven
from flowsheet.evaluation.threshold import choose_policy
from flowsheet.windows.sequences import Sequences

DAILY = TaskConfig(name="daily")
HOURLY = TaskConfig(name="hourly", step_hours=1, horizon=3)
CONFIG = EvaluationConfig(name="promises")
PPV, SENSITIVITY, BUDGET = ThresholdBy.ppv, ThresholdBy.sensitivity, ThresholdBy.alerts_per_day


def make_stays(y, *, in_state=None, lengths=None, scored=None, subject=None):
    y = np.asarray(y, np.int8)
    lengths = np.asarray([1] * len(y) if lengths is None else lengths)
    falses, trues = np.zeros(len(y), bool), np.ones(len(y), bool)
    return Sequences(
        x=np.empty((len(y), 0), np.float32),
        y=y,
        scored=trues if scored is None else np.asarray(scored, bool),
        in_state=falses if in_state is None else np.asarray(in_state, bool),
        history=np.empty((len(y), 0), np.float32),
        step=np.concatenate([np.arange(1, n + 1) for n in lengths]).astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        stay_id=np.arange(len(lengths)),
        subject_id=np.arange(len(lengths)) if subject is None else np.asarray(subject),
        features=(),
    )


def draw_calibrated_stays(n, seed):
    """Stays of a day whose risk is uniform and right: P(y = 1) = risk."""
    rng = np.random.default_rng(seed)
    risk = rng.random(n)
    return make_stays(rng.random(n) < risk), risk


TRUE_VALUES = {
    PPV: lambda t: (1 + t) / 2,
    SENSITIVITY: lambda t: 1 - t**2,
    BUDGET: lambda t: 1 - t,
}
"""At threshold t, in closed form."""


@pytest.mark.parametrize(("kind", "target"), [(PPV, 0.7), (SENSITIVITY, 0.6), (BUDGET, 0.3)])
def test_promises_are_kept_for_all_patients_and_not_only_those_at_hand(kind, target):
    config = AlertingConfig(threshold_by=kind, target=target)
    margins = []
    for seed in range(30):
        stays, risk = draw_calibrated_stays(400, seed)
        policy = choose_policy(stays, risk, DAILY, CONFIG, config)
        assert policy.promise
        if not policy.promise.is_made:
            continue
        value = TRUE_VALUES[kind](min(policy.threshold, 1))
        margins.append((value - target) * (-1 if kind is BUDGET else 1))
    assert len(margins) >= 27
    assert np.mean(np.array(margins) >= 0) >= 0.95
    assert np.median(margins) < 0.1  # the promise is not bought with a useless threshold


def test_with_one_alert_a_subject_the_bounds_are_those_of_clopper_and_pearson():
    ratio = Ratio(np.repeat([1.0, 0.0], [7, 23]), np.ones(30), is_share=True)
    assert ratio.bound(0.05, is_lower=True) == pytest.approx(beta.ppf(0.05, 7, 24), abs=1e-9)
    assert ratio.bound(0.05, is_lower=False) == pytest.approx(beta.ppf(0.95, 8, 23), abs=1e-9)
    none = Ratio(np.zeros(30), np.ones(30), is_share=True)
    assert none.bound(0.05, is_lower=True) == pytest.approx(0, abs=1e-9)
    assert none.bound(0.05, is_lower=False) == pytest.approx(1 - 0.05 ** (1 / 30), abs=1e-9)


def test_of_no_alert_in_so_many_days_the_rate_has_the_bound_of_three_over_them():
    ratio = Ratio(np.zeros(50), np.full(50, 2.0), is_share=False)
    assert ratio.value == 0
    assert ratio.bound(0.05, is_lower=False) == pytest.approx(-np.log(0.05) / 100, rel=1e-6)


def test_a_few_subjects_of_whom_one_has_all_alerts_give_no_interval():
    """The corrected Student's test rejects no rate at all: no number is better than a wrong one."""
    alerts, days = np.array([20.0, 0, 0, 0, 0]), np.array([30.0, 3, 3, 3, 3])
    ratio = Ratio(alerts, days, is_share=False)
    assert np.isnan(ratio.bound(0.025, is_lower=False))
    estimate = AlertEstimate.from_ratio(ratio, 0.95)
    assert (estimate.value, estimate.low, estimate.high) == (20 / 42, None, None)
    assert estimate.format(2) == "0.48"


def test_repeated_alerts_of_a_few_subjects_prove_less_than_those_of_many():
    many = Ratio(np.full(100, 1.0), np.full(100, 1.25), is_share=True)
    few = Ratio(np.full(5, 20.0), np.full(5, 25.0), is_share=True)
    assert many.value == few.value == 0.8
    assert few.bound(0.05, is_lower=True) < 0.5 < many.bound(0.05, is_lower=True)
    heavy = Ratio(np.array([*[0.0] * 99, 40.0]), np.full(100, 3.0), is_share=False)
    assert heavy.bound(0.05, is_lower=False) > 3 * heavy.value


def test_tests_stop_at_the_first_that_is_not_rejected_and_share_the_error():
    p = [0.001, 0.012, 0.3, 0.001, 0.02, 0.9]
    proven = find_last_proven(p.__getitem__, [0], len(p), 0.05)
    assert proven
    assert (proven.position, proven.level) == (1, 0.05)
    proven = find_last_proven(p.__getitem__, [0, 3], len(p), 0.05)
    assert proven
    assert (proven.position, proven.level) == (4, 0.025)
    assert find_last_proven(p.__getitem__, [2], len(p), 0.05) is None


def test_onsets_are_found_in_their_windows_and_at_their_lead():
    """Two stays: one with two onsets (an early alert is false), one with a late discharge."""
    y = [0, 0, 1, 1, 1, 1, 0, 1, 1, 1, 0, 0, 0]
    in_state = [0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0]
    stays = make_stays(y, in_state=in_state, lengths=[11, 2], scored=[1] * 12 + [0])
    windows = OnsetWindows(stays, HOURLY)
    assert windows.onset.tolist() == [-1, -1, 0, 0, 0, -1, -1, 1, 1, 1, -1, -1, -1]
    assert windows.onset_steps.tolist() == [6, 11]
    alerts = np.isin(np.arange(13), [1, 3, 5, 11, 12])  # false, right, in the state, false, unseen
    counts = windows.count(alerts)
    assert counts.alerts.tolist() == [3, 1]
    assert counts.judged_alerts.tolist() == [2, 1]
    assert counts.right_alerts.tolist() == [1, 0]
    assert (counts.onsets.tolist(), counts.found.tolist()) == ([2, 0], [1, 0])
    assert counts.lead_hours.tolist() == [2]
    assert counts.days.tolist() == [11 / 24, 1 / 24]


def test_a_stretch_longer_than_the_horizon_is_of_several_onsets():
    assert OnsetWindows(make_stays([1] * 7, lengths=[7]), HOURLY).onset.tolist() == [
        *(0, 0, 0),
        *(1, 1, 1),
        2,
    ]
    daily = OnsetWindows(make_stays([1, 1, 0, 1], lengths=[4]), DAILY)
    assert daily.onset.tolist() == [0, 1, -1, 2]
    same_day = TaskConfig(name="same", horizon=0, cutoff_hours=6)
    same = OnsetWindows(make_stays([1, 1], lengths=[2]), same_day)
    assert same.onset.tolist() == [0, 1]
    assert same.count(np.array([True, False])).lead_hours.tolist() == [18]


def test_stays_without_scored_rows_or_onsets_have_nothing_to_find():
    stays = make_stays([1, 1], scored=[0, 0])
    counts = OnsetWindows(stays, DAILY).count(np.ones(2, bool))
    assert counts.days.sum() == counts.alerts.sum() == counts.onsets.sum() == 0
    judged = judge_policies(
        stays, {"m": np.ones(2)}, {"m": AlertPolicy(threshold=0.5)}, DAILY, CONFIG
    )["m"]
    assert (judged.ppv.value, judged.onsets_found.value, judged.lead_hours) == (None, None, None)
    assert judged.metrics() == {}


@pytest.mark.parametrize(("kind", "target"), [(PPV, 0.2), (SENSITIVITY, 0.5), (BUDGET, 0.01)])
def test_without_evidence_nothing_is_promised(kind, target):
    config = AlertingConfig(threshold_by=kind, target=target)
    stays = make_stays(np.zeros(20))
    policy = choose_policy(stays, np.linspace(0, 1, 20), DAILY, CONFIG, config)
    assert policy.promise
    if kind is BUDGET:  # kept by no alert at all
        assert policy.promise.is_made
        assert policy.threshold == NEVER_ALERT
        return
    assert not policy.promise.is_made
    judged = judge_policies(stays, {"m": np.linspace(0, 1, 20)}, {"m": policy}, DAILY, CONFIG)["m"]
    assert judged.promise
    assert judged.promise.verdict == NOT_MADE
    assert "nothing is promised" in judged.promise.sentence
    assert "promise_kept" not in judged.metrics()


def test_the_verdict_is_that_of_the_held_out_subjects():
    stays, risk = draw_calibrated_stays(500, 1)
    config = AlertingConfig(threshold_by=PPV, target=0.7)
    policy = choose_policy(stays, risk, DAILY, CONFIG, config)
    others, other_risk = draw_calibrated_stays(500, 2)
    healthy = make_stays(np.zeros(500))

    def judge(held_out, p):
        return judge_policies(held_out, {"m": p}, {"m": policy}, DAILY, CONFIG)["m"]

    kept = judge(others, other_risk)
    assert kept.promise
    assert kept.promise.verdict == KEPT
    assert kept.metrics()["promise_kept"] == 1
    broken = judge(healthy, other_risk)
    assert broken.promise
    assert broken.promise.verdict == NOT_KEPT
    assert "it is not kept: 0.0%" in broken.promise.sentence
    assert broken.metrics()["promise_kept"] == 0
    silent = judge(others, np.zeros(500))
    assert silent.promise
    assert silent.promise.verdict == NOT_JUDGED


def test_found_onsets_are_weighed_against_false_alerts():
    stays, risk = draw_calibrated_stays(4000, 3)
    config = AlertingConfig(threshold_by="utility", target=3)
    policy = choose_policy(stays, risk, DAILY, CONFIG, config)
    assert policy.maximizes == "found_onsets"
    assert policy.threshold == pytest.approx(0.25, abs=0.1)  # where risk / (1 - risk) = 1 / 3


@pytest.mark.parametrize(
    ("values", "task", "reason"),
    [
        ({"threshold_by": "utility"}, {}, "utility is defined for hourly"),
        ({"threshold_by": "alerts_per_day", "target": 2}, {}, "an alert at every prediction"),
        ({"threshold_by": "alerts_per_day", "target": 0.2}, {"at_hours": 24}, "asks once a stay"),
    ],
)
def test_a_policy_that_the_task_cannot_have_is_refused(values, task, reason):
    stays, risk = draw_calibrated_stays(10, 1)
    task = TaskConfig(name="t", **task)
    with pytest.raises(UsageError, match=reason):
        choose_policy(stays, risk, task, CONFIG, AlertingConfig(**values))
