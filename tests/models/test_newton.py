"""The solver ends at the minimum, and a row's prediction does not depend on other rows."""

import numpy as np
import pytest

from flowsheet.models import _row_matrix
from flowsheet.models._newton import logistic, minimise, predictor, squared_hinge


@pytest.fixture
def x_and_y():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(400, 5)).astype(np.float32)
    y = (rng.random(400) < 1 / (1 + np.exp(1 - x @ [1, -1, 0.5, 0, 0]))).astype(np.int8)
    return x, y


@pytest.mark.parametrize("loss", [logistic, squared_hinge])
def test_the_solution_is_a_minimum(x_and_y, loss):
    x, y = x_and_y
    penalty = np.array([0.0, 1, 1, 1, 1, 1])
    weights = np.where(y == 1, 3.0, 1.0)

    def total(coef):
        losses, _, _ = loss(y.astype(float), np.c_[np.ones(len(x)), x] @ coef)
        return (weights * losses).sum() + penalty @ coef**2 / 2

    fit = minimise(x, y, loss, penalty, weights=weights)
    assert fit.converged
    assert fit.loss == pytest.approx(total(fit.coef))
    for step in np.random.default_rng(4).normal(size=(50, 6)) * 0.01:
        assert total(fit.coef + step) > fit.loss


@pytest.mark.parametrize("loss", [logistic, squared_hinge])
def test_derivatives_are_those_of_the_loss(loss):
    eta, y, h = np.linspace(-3, 3, 13) + 0.01, np.tile([0.0, 1.0], 7)[:13], 1e-5
    _, first, second = loss(y, eta)
    loss_below, first_below, _ = loss(y, eta - h)
    loss_above, first_above, _ = loss(y, eta + h)
    np.testing.assert_allclose(first, (loss_above - loss_below) / (2 * h), atol=1e-6)
    np.testing.assert_allclose(second, (first_above - first_below) / (2 * h), atol=1e-6)


def test_the_size_of_chunks_does_not_matter(x_and_y, monkeypatch):
    x, y = x_and_y
    expected = minimise(x, y, logistic, np.ones(6)).coef
    monkeypatch.setattr(_row_matrix, "CHUNK_ROWS", 37)
    np.testing.assert_allclose(minimise(x, y, logistic, np.ones(6)).coef, expected, rtol=1e-10)


def test_no_bit_of_a_row_depends_on_other_rows(x_and_y):
    x, _ = x_and_y
    coef = np.random.default_rng(5).normal(size=6)
    together = predictor(x, coef)
    alone = np.concatenate([predictor(x[i : i + 1], coef) for i in range(len(x))])
    assert alone.tobytes() == together.tobytes()
