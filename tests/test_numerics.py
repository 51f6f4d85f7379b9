"""The shared formulas are those of scikit-learn and SciPy, and finite where theirs are not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logit
from scipy.stats import skew
from sklearn.metrics import log_loss as sklearn_log_loss

from flowsheet.numerics import TailTransform, log_loss, log_losses, log_odds, skewness


def test_log_odds_are_those_of_scipy_and_finite_at_the_ends():
    p = np.linspace(0.01, 0.99, 99)
    np.testing.assert_allclose(log_odds(p), logit(p), rtol=1e-12)
    assert np.isfinite(log_odds(np.array([0.0, 1.0]))).all()


def test_log_loss_is_that_of_scikit_learn():
    rng = np.random.default_rng(1)
    y, p = rng.integers(0, 2, 500).astype(np.int8), rng.random(500)
    assert log_loss(y, p) == pytest.approx(sklearn_log_loss(y, p), rel=1e-12)


def test_log_loss_is_finite_for_certain_and_wrong_probabilities():
    y, p = np.array([1, 0], np.int8), np.array([0.0, 1.0])
    assert log_losses(y, p).tolist() == pytest.approx([-np.log(1e-15)] * 2)
    assert log_losses(y, p, smallest=0.01).tolist() == pytest.approx([-np.log(0.01)] * 2)


def test_log_loss_without_rows_is_0():
    assert log_loss(np.array([], np.int8), np.array([])) == 0.0


def test_skewness_is_that_of_scipy_and_0_for_a_constant():
    values = np.random.default_rng(2).lognormal(size=400)
    assert skewness(values) == pytest.approx(skew(values), rel=1e-12)
    assert skewness(np.full(5, 3.0)) == 0.0


def test_the_transform_clips_tails_and_takes_the_log_of_skewed_values():
    values = np.random.default_rng(3).lognormal(size=20_000)
    transform = TailTransform.fit(values)
    low, high = np.quantile(values, [0.001, 0.999])
    assert (transform.low, transform.high, transform.log) == (low, high, True)
    expected = np.log1p([low, high, 2.0])
    np.testing.assert_array_equal(transform(np.array([-1.0, 1e9, 2.0])), expected)
    assert np.isnan(transform(np.array([np.nan]))).all()


@pytest.mark.parametrize("shift", [-1.0, 0.0])
def test_values_with_negatives_or_little_skewness_keep_their_scale(shift: float):
    rng = np.random.default_rng(4)
    values = rng.lognormal(size=1000) + shift if shift else rng.uniform(size=1000)
    assert not TailTransform.fit(values).log
