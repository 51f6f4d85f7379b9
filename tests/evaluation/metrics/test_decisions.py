"""Figures of alarms: what a sensitivity costs, what acting is worth, how early and how often in vain."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowsheet.evaluation.metrics import METRICS, ScoredRows
from flowsheet.evaluation.metrics.base import Sample

from .test_metrics import figure, metric, rows


def alarms_needed(y, p, sensitivity):
    """Rows taken from the top until enough events are found; inside a tie each event costs its share of the group."""
    wanted, found, rung = sensitivity * y.sum(), 0.0, 0.0
    for value in sorted(set(p), reverse=True):
        group = p == value
        hits, size = y[group].sum(), group.sum()
        if found + hits >= wanted * (1 - 1e-12):
            return rung + (wanted - found) / hits * size
        found, rung = found + hits, rung + size
    raise AssertionError


@pytest.mark.parametrize("percent", [50, 80])
@given(data=rows())
def test_a_sensitivity_costs_what_counting_says(percent, data):
    y, p = data
    needed = alarms_needed(y, p, percent / 100)
    assert figure(f"alarm_rate_at_sensitivity_{percent}", y, p) == pytest.approx(
        needed / len(y), rel=1e-9
    )
    assert figure(f"ppv_at_sensitivity_{percent}", y, p) == pytest.approx(
        percent / 100 * y.sum() / needed, rel=1e-9
    )


def test_a_perfect_model_finds_80_percent_without_a_false_alarm():
    y = np.array([1] * 10 + [0] * 90)
    assert figure("ppv_at_sensitivity_80", y, y * 0.9) == pytest.approx(1)
    assert figure("alarm_rate_at_sensitivity_80", y, y * 0.9) == pytest.approx(0.08)
    assert figure("ppv_at_sensitivity_80", y, np.full(100, 0.2)) == pytest.approx(0.1)


@pytest.mark.parametrize("percent", [5, 20])
@given(data=rows())
def test_net_benefit_is_its_definition(percent, data):
    y, p = data
    t, rung = percent / 100, p >= percent / 100
    expected = ((rung & (y == 1)).sum() - (rung & (y == 0)).sum() * t / (1 - t)) / len(y)
    assert figure(f"net_benefit_at_{percent}", y, p) == pytest.approx(expected, abs=1e-12)


def test_net_benefit_lies_between_silence_and_perfection():
    y = np.array([1] * 10 + [0] * 90)
    assert figure("net_benefit_at_20", y, y * 0.9) == pytest.approx(0.1)
    assert figure("net_benefit_at_20", y, np.zeros(100)) == 0
    assert figure("net_benefit_at_20", y, np.ones(100)) == pytest.approx(0.1 - 0.9 / 4)


def stays(y, lead):
    size = np.arange(len(y))
    return ScoredRows(
        *(
            np.array(y, np.int8),
            np.full(len(y), 0.5),
            size,
            size,
            np.ones(len(y), np.int64),
            len(y),
        ),
        alarm=~np.isnan(lead),
        per_stay=True,
        lead=np.array(lead, float),
    )


nan = np.nan


def test_lead_time_is_the_median_over_detected_onsets():
    told = stays([1, 1, 1, 1, 1, 0], [24, nan, 72, 48, 48, nan])
    assert metric("lead_time")(told) == 48
    assert metric("episodes_detected")(told) == pytest.approx(0.8)
    assert metric("lead_time")(stays([1, 1, 0], [24, 48, nan])) == 36
    assert np.isnan(metric("lead_time")(stays([1, 0], [nan, nan])))
    assert metric("episodes_detected")(stays([1, 0], [nan, nan])) == 0


@given(
    lead=st.lists(st.sampled_from([nan, 6.0, 12.0, 24.0, 48.0]), min_size=3, max_size=20),
    seed=st.integers(0, 2**20),
)
def test_weighted_medians_are_medians_of_repeated_stays(lead, seed):
    lead = np.array([*lead, nan, 3.0])
    told = stays(np.append(np.ones(len(lead) - 1), 1), lead)
    weights = np.random.default_rng(seed).integers(0, 4, (len(lead), 3)).astype(float)
    for b, found in enumerate(metric("lead_time").compute(Sample(told, weights))):
        repeated = np.repeat(lead, weights[:, b].astype(int))
        known = repeated[~np.isnan(repeated)]
        assert found == pytest.approx(np.median(known) if len(known) else nan, nan_ok=True)


def test_false_alarms_are_counted_among_those_without_the_event():
    y, p = np.array([1, 0, 0, 0, 0]), np.full(5, 0.3)
    assert figure("false_alert_rate", y, p, np.array([1, 1, 0, 0, 0])) == pytest.approx(0.25)


def test_stays_are_told_only_what_means_something_of_them():
    told = stays([1, 0, 1, 0], [24, nan, nan, nan])
    names = {name for name, cls in METRICS if cls().is_applicable(told)}
    assert {
        "auroc",
        "auprc",
        "brier",
        "lead_time",
        "episodes_detected",
        "false_alert_rate",
    } <= names
    assert (
        not {"log_loss", "calibration_slope", "net_benefit_at_5", "normalised_utility", "accuracy"}
        & names
    )


def test_rows_have_no_lead_time():
    rows_only = ScoredRows.from_arrays(
        np.array([0, 1]), np.array([0.2, 0.8]), np.array([False, True])
    )
    assert not metric("lead_time").is_applicable(rows_only)
    with pytest.raises(ValueError, match="no lead times"):
        metric("lead_time")(rows_only)
