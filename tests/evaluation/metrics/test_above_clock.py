"""What a model adds to the clock, against brute force."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from flowsheet.evaluation.metrics import ScoredRows, get_metric
from flowsheet.evaluation.metrics.base import RequiredInput, Sample
from flowsheet.testing.metrics import toy_rows


def rows_of(step, y, p, stay=None):
    """Rows of one stay and subject each, unless ``stay`` is given."""
    stay = np.arange(len(y)) if stay is None else np.asarray(stay)
    return ScoredRows(
        y=np.asarray(y, np.int8),
        p=np.asarray(p, np.float64),
        subject=stay,
        stay=stay,
        step=np.asarray(step),
        n_subjects=int(stay.max()) + 1,
        has_first_onsets=True,
    )


def count_pairs(rows, weights, cases, controls):
    """Concordant pairs and all pairs of each step, by enumeration."""
    totals = {}
    for i, j in product(np.flatnonzero(cases), np.flatnonzero(controls)):
        if rows.step[i] == rows.step[j]:
            weight = weights[rows.subject[i]] * weights[rows.subject[j]]
            won = (rows.p[i] > rows.p[j]) + (rows.p[i] == rows.p[j]) / 2
            before = totals.get(rows.step[i], (0.0, 0.0))
            totals[rows.step[i]] = (before[0] + weight * won, before[1] + weight)
    return totals


@pytest.mark.parametrize("seed", range(3))
def test_auroc_within_step_is_the_share_of_concordant_pairs_of_equal_steps(seed):
    rows = toy_rows(seed)
    weights = np.random.default_rng(seed).integers(0, 3, rows.n_subjects).astype(float)
    totals = count_pairs(rows, weights, rows.y == 1, rows.y == 0)
    expected = sum(c for c, _ in totals.values()) / sum(n for _, n in totals.values())
    value = get_metric("auroc_within_step").compute(Sample(rows, weights[:, None]))[0]
    assert value == pytest.approx(expected)


def test_a_clock_has_one_half_within_a_step():
    rows = toy_rows(1)
    by_step = replace(rows, p=rows.step / 100)
    assert get_metric("auroc_within_step")(by_step) == 0.5


@pytest.mark.parametrize("seed", range(3))
def test_incident_auroc_is_that_of_heagerty_and_zheng(seed):
    """Each stay is a case at its first positive row; weights from the Kaplan-Meier estimate."""
    rows = toy_rows(seed, RequiredInput.onsets)
    weights = np.random.default_rng(seed + 9).integers(0, 3, rows.n_subjects).astype(float)
    cases = np.zeros(len(rows.y), bool)
    for stay in np.unique(rows.stay):
        positive = np.flatnonzero((rows.stay == stay) & (rows.y == 1))
        if len(positive):
            cases[positive[np.argmin(rows.step[positive])]] = True
    controls = rows.y == 0
    totals = count_pairs(rows, weights, cases, controls)
    survival, numerator, denominator = 1.0, 0.0, 0.0
    for step in np.unique(rows.step[cases]):
        at = rows.step == step
        d = weights[rows.subject[cases & at]].sum()
        n = d + weights[rows.subject[controls & at]].sum()
        after = survival * (1 - d / n) if n else survival
        concordant, pairs = totals.get(step, (0.0, 0.0))
        if pairs:
            numerator += (survival - after) * after * concordant / pairs
            denominator += (survival - after) * after
        survival = after
    value = get_metric("auroc_incident").compute(Sample(rows, weights[:, None]))[0]
    assert value == pytest.approx(numerator / denominator)


def test_a_stay_with_many_rows_before_its_onset_is_one_case():
    """Later rows of the window are neither cases nor controls."""
    once = rows_of([1, 1, 2], [1, 0, 0], [0.9, 0.1, 0.1], stay=[0, 1, 1])
    often = rows_of([1, 2, 1, 2], [1, 1, 0, 0], [0.9, 0.0, 0.1, 0.1], stay=[0, 0, 1, 1])
    assert get_metric("auroc_incident")(once) == get_metric("auroc_incident")(often) == 1.0


@pytest.mark.parametrize("name", ["auroc", "auprc", "normalised_utility"])
def test_the_share_is_of_the_room_that_the_clock_leaves(name):
    rows = toy_rows(2, RequiredInput.clock)
    own, clock = get_metric(name)(rows), get_metric(name)(rows.clock)
    share = get_metric(f"{name}_above_clock")
    assert share(rows) == pytest.approx((own - clock) / (1 - clock))
    as_good = replace(rows.clock, clock=rows.clock)
    assert share(as_good) == 0.0
    perfect = replace(rows, p=rows.y * 0.9 + 0.05)
    if name != "normalised_utility":
        assert share(perfect) == pytest.approx(1.0)


def test_net_benefit_has_the_prevalence_above_the_better_of_clock_and_no_alerts():
    rows = toy_rows(2, RequiredInput.clock)
    own = get_metric("net_benefit_at_20")(rows)
    floor = max(0.0, get_metric("net_benefit_at_20")(rows.clock))
    expected = (own - floor) / (rows.y.mean() - floor)
    assert get_metric("net_benefit_above_clock_20")(rows) == pytest.approx(expected)


def test_without_a_clock_there_is_no_share():
    assert not get_metric("auroc_above_clock").is_applicable(toy_rows(1))


def test_a_budget_of_alerts_is_per_patient_day():
    """One alert in ten patient-days is one in twenty rows of twelve hours."""
    rows = toy_rows(1, RequiredInput.step_hours)
    by_rate = get_metric("ppv_at_alert_rate_5")(rows)
    assert get_metric("ppv_at_daily_alerts_10")(rows) == pytest.approx(by_rate)
    alerts = rows.is_alert.sum() / (len(rows.y) / 2)
    assert get_metric("alerts_per_patient_day")(rows) == pytest.approx(alerts)
    daily = replace(rows, step_hours=48.0)
    assert np.isnan(get_metric("ppv_at_daily_alerts_100")(daily))
