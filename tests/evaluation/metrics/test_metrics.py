"""Properties of all metrics, and their agreement with scikit-learn and the PhysioNet scorer."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as sk

from flowsheet.evaluation.metrics import (
    RequiredInput,
    ScoredRows,
    get_metric,
)
from flowsheet.evaluation.metrics.base import Sample
from tests.evaluation.metrics.helpers import (
    compute,
    default_metrics,
    labelled_probabilities,
    stay_rows,
)

SKLEARN = {
    "auroc": sk.roc_auc_score,
    "auprc": sk.average_precision_score,
    "brier": sk.brier_score_loss,
    "log_loss": sk.log_loss,
}


@pytest.mark.parametrize("name", SKLEARN)
@given(data=labelled_probabilities())
def test_probability_metrics_equal_scikit_learn_with_ties(name, data):
    assert compute(name, *data) == pytest.approx(SKLEARN[name](*data), rel=1e-9, abs=1e-12)


@given(data=labelled_probabilities(), threshold=st.floats(-0.1, 1.1))
def test_alert_metrics_equal_scikit_learn(data, threshold):
    y, p = data
    is_alert = p >= threshold
    assert compute("accuracy", y, p, is_alert) == pytest.approx(sk.accuracy_score(y, is_alert))
    assert compute("f_measure", y, p, is_alert) == pytest.approx(sk.f1_score(y, is_alert))


def physionet_areas(y, p):
    """AUROC and AUPRC as the PhysioNet scorer computes them: threshold 1 always, 0 never."""
    thresholds = sorted({1.0, *p} - {0.0}, reverse=True)
    tp = [0.0] + [float(((p >= t) & (y == 1)).sum()) for t in thresholds if t != 1.0]
    fp = [0.0] + [float(((p >= t) & (y == 0)).sum()) for t in thresholds if t != 1.0]
    recall, specificity = np.array(tp) / (y == 1).sum(), 1 - np.array(fp) / (y == 0).sum()
    auroc = np.sum(np.diff(recall) * (specificity[1:] + specificity[:-1]) / 2)
    precision = np.array(tp[1:]) / np.maximum(np.array(tp[1:]) + np.array(fp[1:]), 1)
    return auroc, np.sum(np.diff(recall) * precision)


@given(data=labelled_probabilities(low=0.05, high=0.95))
def test_the_physionet_scorer_agrees_on_ties_inside_0_and_1(data):
    auroc, auprc = physionet_areas(*data)
    assert compute("auroc", *data) == pytest.approx(auroc, abs=1e-12)
    assert compute("auprc", *data) == pytest.approx(auprc, abs=1e-12)


def test_the_physionet_scorer_omits_the_last_segment_at_probability_0():
    y, p = np.array([0, 1, 0, 1]), np.array([0.2, 0.6, 0.0, 0.0])
    auroc, auprc = physionet_areas(y, p)
    assert compute("auroc", y, p) > auroc
    assert compute("auprc", y, p) > auprc


@given(data=labelled_probabilities(), seed=st.integers(0, 2**31))
def test_the_order_of_rows_does_not_matter(data, seed):
    y, p = data
    order = np.random.default_rng(seed).permutation(len(y))
    for metric in default_metrics():
        if metric.requires is RequiredInput.probabilities:
            value = metric(ScoredRows.from_arrays(y, p))
            shuffled = metric(ScoredRows.from_arrays(y[order], p[order]))
            assert value == pytest.approx(shuffled, rel=1e-9, nan_ok=True)


@given(data=labelled_probabilities())
def test_ranking_metrics_ignore_monotone_transforms(data):
    y, p = data
    for name in ("auroc", "auprc", "sensitivity_at_alert_rate_5", "ppv_at_alert_rate_10"):
        assert compute(name, y, np.exp(3 * p)) == pytest.approx(compute(name, y, p), rel=1e-12)


@pytest.mark.parametrize(
    "name",
    [
        "auroc",
        "auprc",
        "brier",
        "log_loss",
        "sensitivity_at_alert_rate_5",
        "sensitivity_at_alert_rate_10",
        "ppv_at_alert_rate_5",
        "specificity_at_sensitivity_80",
    ],
)
@given(data=labelled_probabilities(), weights=hnp.arrays(np.int64, 60, elements=st.integers(0, 3)))
def test_weights_are_repetitions_of_rows(name, data, weights):
    y, p = data
    weights = weights[: len(y)]
    weights[:2] = np.maximum(weights[:2], 1)
    repeated = np.repeat(np.arange(len(y)), weights)
    sample = Sample(ScoredRows.from_arrays(y, p), weights[:, None].astype(float))
    weighted = get_metric(name).compute(sample)[0]
    assert weighted == pytest.approx(compute(name, y[repeated], p[repeated]), rel=1e-9)


@pytest.mark.parametrize(("y", "p"), [([], []), ([0, 0, 0], [0.1, 0.2, 0.3]), ([1, 1], [0.5, 0.6])])
def test_without_both_classes_nothing_is_estimable(y, p):
    scored = ScoredRows.from_arrays(np.array(y, np.int8), np.array(p), np.zeros(len(y)))
    assert scored.reason_not_estimable is not None
    for metric in default_metrics():
        assert np.isnan(metric(scored)), metric.name


def test_a_resample_without_both_classes_is_nan_and_does_not_affect_the_others():
    scored = ScoredRows.from_arrays(np.array([0, 1, 0]), np.array([0.2, 0.7, 0.4]))
    weights = np.array([[1.0, 0.0, 2.0], [1.0, 1.0, 0.0], [1.0, 0.0, 1.0]])
    for name in ("auroc", "auprc"):
        values = get_metric(name).compute(Sample(scored, weights))
        assert np.isnan(values).tolist() == [False, True, True]


def test_calibration_error_of_known_bins():
    p = np.repeat(np.linspace(0.05, 0.95, 10), 100)
    y = (np.tile(np.arange(100), 10) < np.repeat(np.arange(10) * 10, 100)).astype(int)
    assert compute("ece", y, p) == pytest.approx(0.05)


def test_false_alerts_are_a_share_of_the_rows_without_the_event():
    y, p = np.array([1, 0, 0, 0, 0]), np.full(5, 0.3)
    is_alert = np.array([1, 1, 0, 0, 0])
    assert compute("false_alert_rate", y, p, is_alert) == pytest.approx(0.25)


def test_stays_have_only_the_metrics_that_support_them():
    stays = stay_rows([1, 0, 1, 0], [24, np.nan, np.nan, np.nan])
    names = {metric.name for metric in default_metrics() if metric.is_applicable(stays)}
    assert {"auroc", "auprc", "brier"} <= names
    assert {"lead_time", "episodes_detected", "false_alert_rate"} <= names
    assert names.isdisjoint({"log_loss", "calibration_slope", "accuracy"})
    assert names.isdisjoint({"net_benefit_at_5", "normalised_utility"})


def test_rows_have_no_lead_time():
    rows = ScoredRows.from_arrays(np.array([0, 1]), np.array([0.2, 0.8]), np.array([False, True]))
    assert not get_metric("lead_time").is_applicable(rows)
    with pytest.raises(ValueError, match="no lead times"):
        get_metric("lead_time")(rows)


@pytest.mark.parametrize("metric", default_metrics(), ids=lambda metric: metric.name)
@settings(max_examples=15)
@given(data=labelled_probabilities(0.05, 0.95), seed=st.integers(0, 1000))
def test_a_row_of_weight_w_counts_like_w_rows(metric, data, seed):
    if metric.requires not in {RequiredInput.probabilities, RequiredInput.alerts}:
        return
    y, p = data
    weight = np.random.default_rng(seed).integers(1, 4, len(y))
    rows = ScoredRows.from_arrays(y, p, p >= 0.5)
    weighted = replace(rows, weight=weight.astype(float))
    repeated = ScoredRows.from_arrays(*(np.repeat(values, weight) for values in (y, p, p >= 0.5)))
    if metric.name == "ece":  # its bins are quantiles of the rows, however they are weighted
        return
    assert metric(weighted) == pytest.approx(metric(repeated), rel=1e-6, abs=1e-9, nan_ok=True)
