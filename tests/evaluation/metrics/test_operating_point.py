"""Metrics at a fixed alert rate, sensitivity or threshold probability."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowsheet.errors import UsageError
from flowsheet.evaluation.metrics import METRICS, get_metric, list_families
from tests.evaluation.metrics.helpers import compute, labelled_probabilities

PERFECT_Y = np.array([1] * 10 + [0] * 90)


def test_ties_at_the_alert_rate_are_shared_out():
    constant = np.full(100, 0.3)
    assert compute("sensitivity_at_alert_rate_5", PERFECT_Y, constant) == pytest.approx(0.05)
    assert compute("ppv_at_alert_rate_10", PERFECT_Y, constant) == pytest.approx(0.10)


def test_a_perfect_model_finds_all_events_at_the_prevalence():
    p = PERFECT_Y * 0.5
    assert compute("sensitivity_at_alert_rate_10", PERFECT_Y, p) == pytest.approx(1.0)
    assert compute("ppv_at_alert_rate_10", PERFECT_Y, p) == pytest.approx(1.0)


@pytest.mark.parametrize("percent", [2, 12.5])
def test_any_alert_rate_can_be_requested(percent):
    p = np.linspace(1, 0, 1000)
    y = (np.arange(1000) % 4 == 0).astype(np.int8)
    n_alerts = round(1000 * percent / 100)
    suffix = str(percent).replace(".", "_")
    ppv = compute(f"ppv_at_alert_rate_{suffix}", y, p)
    sensitivity = compute(f"sensitivity_at_alert_rate_{suffix}", y, p)
    assert ppv == pytest.approx(y[:n_alerts].sum() / n_alerts)
    assert sensitivity == pytest.approx(y[:n_alerts].sum() / y.sum())


def alerts_needed(y, p, sensitivity):
    """(alerts, false alerts) from the highest probability down until enough events are found.

    Inside a tie each event takes its share of the group.
    """
    target, n_found, n_alerts = sensitivity * y.sum(), 0.0, 0.0
    for value in sorted(set(p), reverse=True):
        group = p == value
        n_events, size = y[group].sum(), group.sum()
        if n_found + n_events >= target * (1 - 1e-12):
            share = (target - n_found) / n_events
            return n_alerts + share * size, n_alerts + share * size - target
        n_found, n_alerts = n_found + n_events, n_alerts + size
    raise AssertionError("the sensitivity is never reached")


@pytest.mark.parametrize("percent", [50, 80, 100])
@given(data=labelled_probabilities())
def test_metrics_at_a_sensitivity_equal_counting_from_the_top(percent, data):
    y, p = data
    n_alerts, n_false = alerts_needed(y, p, percent / 100)
    alert_rate = compute(f"alert_rate_at_sensitivity_{percent}", y, p)
    ppv = compute(f"ppv_at_sensitivity_{percent}", y, p)
    specificity = compute(f"specificity_at_sensitivity_{percent}", y, p)
    assert alert_rate == pytest.approx(n_alerts / len(y), rel=1e-9)
    assert ppv == pytest.approx(percent / 100 * y.sum() / n_alerts, rel=1e-9)
    assert specificity == pytest.approx(1 - n_false / (y == 0).sum(), abs=1e-9)


def test_a_perfect_model_finds_80_percent_without_a_false_alert():
    p = PERFECT_Y * 0.9
    assert compute("ppv_at_sensitivity_80", PERFECT_Y, p) == pytest.approx(1)
    assert compute("specificity_at_sensitivity_80", PERFECT_Y, p) == 1
    assert compute("alert_rate_at_sensitivity_80", PERFECT_Y, p) == pytest.approx(0.08)


def test_a_constant_prediction_has_the_prevalence_as_its_ppv():
    constant = np.full(100, 0.2)
    assert compute("ppv_at_sensitivity_80", PERFECT_Y, constant) == pytest.approx(0.1)
    assert compute("specificity_at_sensitivity_80", PERFECT_Y, constant) == pytest.approx(0.2)


@pytest.mark.parametrize("percent", [5, 20])
@given(data=labelled_probabilities())
def test_net_benefit_equals_its_definition(percent, data):
    y, p = data
    threshold, is_alert = percent / 100, p >= percent / 100
    n_true, n_false = (is_alert & (y == 1)).sum(), (is_alert & (y == 0)).sum()
    expected = (n_true - n_false * threshold / (1 - threshold)) / len(y)
    assert compute(f"net_benefit_at_{percent}", y, p) == pytest.approx(expected, abs=1e-12)


def test_net_benefit_lies_between_no_alerts_and_perfect_predictions():
    assert compute("net_benefit_at_20", PERFECT_Y, PERFECT_Y * 0.9) == pytest.approx(0.1)
    assert compute("net_benefit_at_20", PERFECT_Y, np.zeros(100)) == 0
    assert compute("net_benefit_at_20", PERFECT_Y, np.ones(100)) == pytest.approx(0.1 - 0.9 / 4)


@pytest.mark.parametrize("family", list_families())
@given(value=st.floats(0.0001, 0.9999).map(lambda share: round(share, 6)))
def test_a_name_leads_back_to_its_operating_point(family, value):
    metric = METRICS.get(family)(value)
    by_name = get_metric(metric.name)
    assert type(by_name) is type(metric)
    assert (by_name.value, by_name.name, by_name.label) == (value, metric.name, metric.label)


def test_names_and_labels_are_in_percent():
    assert get_metric("ppv_at_alert_rate_5").label == "PPV at 5% alert rate"
    assert get_metric("ppv_at_alert_rate_0_5").label == "PPV at 0.5% alert rate"
    assert get_metric("sensitivity_at_alert_rate_10").label == "Sensitivity at 10% alert rate"
    assert get_metric("specificity_at_sensitivity_80").label == "Specificity at 80% sensitivity"
    assert get_metric("net_benefit_at_20").label == "Net benefit at 20% threshold"


@pytest.mark.parametrize(
    ("family", "value", "message"),
    [
        ("ppv_at_alert_rate", 5, "an alert rate is above 0 and at most 1"),
        ("ppv_at_alert_rate", 0, "an alert rate is above 0"),
        ("specificity_at_sensitivity", 80, "a sensitivity is above 0 and at most 1"),
        ("net_benefit_at", 1, "a threshold probability is above 0 and below 1"),
        ("net_benefit_at", float("nan"), "a threshold probability is above 0"),
    ],
)
def test_a_value_out_of_range_is_refused(family, value, message):
    with pytest.raises(UsageError, match=message):
        METRICS.get(family)(value)
