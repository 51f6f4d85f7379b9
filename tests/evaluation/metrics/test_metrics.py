"""The figures are the ones that everybody else would compute."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as sk

from flowsheet.errors import UsageError
from flowsheet.evaluation.metrics import METRICS, Needs, ScoredRows, make_score_function
from flowsheet.evaluation.metrics.base import Sample


@st.composite
def rows(draw, low=0.0, high=1.0):
    """(y, p) with both classes and many ties."""
    size = draw(st.integers(2, 60))
    y = draw(hnp.arrays(np.int8, size, elements=st.integers(0, 1)))
    y[0], y[1] = 0, 1
    p = draw(
        hnp.arrays(
            np.float64, size, elements=st.integers(0, 8).map(lambda i: low + (high - low) * i / 8)
        )
    )
    return y, p


def metric(name):
    return METRICS.get(name)()


def figure(name, y, p, alarm=None):
    return metric(name)(ScoredRows.from_arrays(y, p, alarm))


REFERENCE = {
    "auroc": sk.roc_auc_score,
    "auprc": sk.average_precision_score,
    "brier": sk.brier_score_loss,
    "log_loss": sk.log_loss,
}


@pytest.mark.parametrize("name", REFERENCE)
@given(data=rows())
def test_equals_scikit_learn_with_ties(name, data):
    assert figure(name, *data) == pytest.approx(REFERENCE[name](*data), rel=1e-9, abs=1e-12)


@given(data=rows(), alarm=st.floats(-0.1, 1.1))
def test_alarms_equal_scikit_learn(data, alarm):
    y, p = data
    rung = p >= alarm
    assert figure("accuracy", y, p, rung) == pytest.approx(sk.accuracy_score(y, rung))
    assert figure("f_measure", y, p, rung) == pytest.approx(sk.f1_score(y, rung))


def stepwise_area(y, p):
    """The challenge scorer's sweep over thresholds, in words of our own; 1 always opens it and 0 never closes it."""
    thresholds = sorted(({1.0} | set(p)) - {0.0}, reverse=True)
    tp = [0.0] + [float(((p >= t) & (y == 1)).sum()) for t in thresholds if t != 1.0]
    fp = [0.0] + [float(((p >= t) & (y == 0)).sum()) for t in thresholds if t != 1.0]
    recall, specificity = np.array(tp) / (y == 1).sum(), 1 - np.array(fp) / (y == 0).sum()
    auroc = np.sum(np.diff(recall) * (specificity[1:] + specificity[:-1]) / 2)
    precision = np.array(tp[1:]) / np.maximum(np.array(tp[1:]) + np.array(fp[1:]), 1)
    return auroc, np.sum(np.diff(recall) * precision)


@given(data=rows(low=0.05, high=0.95))
def test_the_challenge_scorer_agrees_on_ties_inside_0_and_1(data):
    auroc, auprc = stepwise_area(*data)
    assert figure("auroc", *data) == pytest.approx(auroc, abs=1e-12)
    assert figure("auprc", *data) == pytest.approx(auprc, abs=1e-12)


def test_the_challenge_scorer_loses_the_last_piece_at_probability_0():
    y, p = np.array([0, 1, 0, 1]), np.array([0.2, 0.6, 0.0, 0.0])
    auroc, auprc = stepwise_area(y, p)
    assert figure("auroc", y, p) > auroc
    assert figure("auprc", y, p) > auprc


@given(data=rows(), seed=st.integers(0, 2**31))
def test_the_order_of_rows_does_not_matter(data, seed):
    y, p = data
    order = np.random.default_rng(seed).permutation(len(y))
    for name, cls in METRICS:
        if cls.needs is Needs.probabilities:
            assert figure(name, y, p) == pytest.approx(
                figure(name, y[order], p[order]), rel=1e-9, nan_ok=True
            )


@given(data=rows())
def test_ranking_figures_ignore_monotone_transforms(data):
    y, p = data
    for name in ("auroc", "auprc", "sensitivity_at_5", "ppv_at_10"):
        assert figure(name, y, np.exp(3 * p)) == pytest.approx(figure(name, y, p), rel=1e-12)


@given(data=rows(), weights=hnp.arrays(np.int64, 60, elements=st.integers(0, 3)))
def test_weights_are_repetitions(data, weights):
    y, p = data
    weights = weights[: len(y)]
    weights[:2] = np.maximum(weights[:2], 1)
    repeated = np.repeat(np.arange(len(y)), weights)
    for name in (
        "auroc",
        "auprc",
        "brier",
        "log_loss",
        "sensitivity_at_5",
        "sensitivity_at_10",
        "ppv_at_5",
    ):
        weighted = metric(name).compute(
            Sample(ScoredRows.from_arrays(y, p), weights[:, None].astype(float))
        )[0]
        assert weighted == pytest.approx(figure(name, y[repeated], p[repeated]), rel=1e-9)


def test_an_alarm_budget_shares_out_ties():
    y = np.array([1] * 10 + [0] * 90)
    assert figure("sensitivity_at_5", y, np.full(100, 0.3)) == pytest.approx(0.05)
    assert figure("ppv_at_10", y, np.full(100, 0.3)) == pytest.approx(0.10)
    assert figure("sensitivity_at_10", y, y * 0.5) == pytest.approx(1.0)
    assert figure("ppv_at_10", y, y * 0.5) == pytest.approx(1.0)


def test_recalibration_equals_a_logistic_regression():
    import statsmodels.api as sm

    rng = np.random.default_rng(3)
    log_odds = rng.normal(-2, 1.5, 4000)
    y = (rng.random(4000) < 1 / (1 + np.exp(-(0.4 + 0.7 * log_odds)))).astype(int)
    p = 1 / (1 + np.exp(-log_odds))
    line = sm.GLM(y, sm.add_constant(log_odds), family=sm.families.Binomial()).fit()
    level = sm.GLM(y, np.ones(4000), family=sm.families.Binomial(), offset=log_odds).fit()
    assert figure("calibration_slope", y, p) == pytest.approx(line.params[1], rel=1e-6)
    assert figure("calibration_intercept", y, p) == pytest.approx(level.params[0], rel=1e-6)


def test_recalibration_that_cannot_be_told_is_nan():
    y = np.array([0, 0, 0, 1, 1, 1])
    assert np.isnan(figure("calibration_slope", y, np.array([0.1, 0.2, 0.3, 0.6, 0.7, 0.8])))
    assert np.isnan(figure("calibration_slope", y, np.full(6, 0.5)))
    assert figure("calibration_intercept", y, np.full(6, 0.5)) == pytest.approx(0, abs=1e-9)


def test_calibration_error_of_known_bins():
    p = np.repeat(np.linspace(0.05, 0.95, 10), 100)
    y = (np.tile(np.arange(100), 10) < np.repeat(np.arange(10) * 10, 100)).astype(int)
    assert figure("ece", y, p) == pytest.approx(0.05)


@pytest.mark.parametrize(("y", "p"), [([], []), ([0, 0, 0], [0.1, 0.2, 0.3]), ([1, 1], [0.5, 0.6])])
def test_without_both_classes_nothing_is_estimable(y, p):
    for _, cls in METRICS:
        scored = ScoredRows.from_arrays(np.array(y, np.int8), np.array(p), np.zeros(len(y)))
        assert np.isnan(cls()(scored))
        assert scored.reason_not_estimable is not None


def test_a_resample_without_both_classes_is_nan_and_harms_no_other():
    scored = ScoredRows.from_arrays(np.array([0, 1, 0]), np.array([0.2, 0.7, 0.4]))
    weights = np.array([[1.0, 0.0, 2.0], [1.0, 1.0, 0.0], [1.0, 0.0, 1.0]])
    for name in ("auroc", "auprc"):
        values = metric(name).compute(Sample(scored, weights))
        assert np.isnan(values).tolist() == [False, True, True]


def test_every_metric_is_named_as_its_file():
    for name, cls in METRICS:
        assert cls.name == name
        assert cls.label


def test_score_function_is_larger_when_better():
    y, good, bad = (
        np.array([0, 0, 1, 1]),
        np.array([0.1, 0.2, 0.8, 0.9]),
        np.array([0.4, 0.6, 0.5, 0.3]),
    )
    for name in ("auroc", "auprc", "brier", "log_loss", "ece", "ppv_at_10"):
        assert make_score_function(name)(y, good) > make_score_function(name)(y, bad)


def test_score_function_refuses_what_it_cannot_rank():
    with pytest.raises(UsageError, match='did you mean "auroc"'):
        make_score_function("aurok")
    with pytest.raises(UsageError, match="cannot be monitored"):
        make_score_function("calibration_slope")
    with pytest.raises(UsageError, match="cannot be monitored"):
        make_score_function("normalised_utility")


def test_score_function_travels_between_processes():
    rng = np.random.default_rng(1)
    y, p = rng.integers(0, 2, 200).astype(np.int8), rng.random(200)
    score = make_score_function("auprc")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(score, y, p).result() == score(y, p)
