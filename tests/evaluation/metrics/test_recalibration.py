"""The calibration slope and intercept are those of a logistic regression on the log odds."""

import numpy as np
import pytest

from tests.evaluation.metrics.helpers import compute


def test_recalibration_equals_a_logistic_regression():
    import statsmodels.api as sm

    rng = np.random.default_rng(3)
    log_odds = rng.normal(-2, 1.5, 4000)
    y = (rng.random(4000) < 1 / (1 + np.exp(-(0.4 + 0.7 * log_odds)))).astype(int)
    p = 1 / (1 + np.exp(-log_odds))
    binomial = sm.families.Binomial()
    with_slope = sm.GLM(y, sm.add_constant(log_odds), family=binomial).fit()
    intercept_only = sm.GLM(y, np.ones(4000), family=binomial, offset=log_odds).fit()
    assert compute("calibration_slope", y, p) == pytest.approx(with_slope.params[1], rel=1e-6)
    intercept = compute("calibration_intercept", y, p)
    assert intercept == pytest.approx(intercept_only.params[0], rel=1e-6)


def test_a_slope_without_a_solution_is_nan():
    y = np.array([0, 0, 0, 1, 1, 1])
    separated, constant = np.array([0.1, 0.2, 0.3, 0.6, 0.7, 0.8]), np.full(6, 0.5)
    assert np.isnan(compute("calibration_slope", y, separated))
    assert np.isnan(compute("calibration_slope", y, constant))
    assert compute("calibration_intercept", y, constant) == pytest.approx(0, abs=1e-9)
