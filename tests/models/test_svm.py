"""The support vector machine learns curved margins, and its probabilities are calibrated."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.svm import LinearSVC

from flowsheet.models.base import Context
from flowsheet.models.svm import SVM
from flowsheet.testing.sequences import plain_sequences


def disc(n, seed):
    """Events inside a disc, one row in five: no straight line separates them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    p = 0.9 / (1 + np.exp(4 * ((x**2).sum(axis=1) - 0.4)))
    return plain_sequences(x, rng.random(n) < p)


def fit(train, valid, **params):
    model = SVM(SVM.Params(**params))
    model.fit(train, valid, Context(seed=1))
    return model


def test_the_gaussian_kernel_separates_classes_that_the_linear_one_cannot():
    train, valid, test = (disc(2000, seed) for seed in range(3))
    linear, gaussian = (
        roc_auc_score(test.y, fit(train, valid, kernel=kernel).predict_proba(test))
        for kernel in ("linear", "gaussian")
    )
    assert linear < 0.6
    assert gaussian > 0.85


def test_probabilities_are_calibrated():
    train, valid, test = (disc(4000, seed) for seed in range(3))
    p = fit(train, valid).predict_proba(test)
    assert p.mean() == pytest.approx(test.y.mean(), abs=0.03)
    for part in np.array_split(np.argsort(p), 5):
        assert p[part].mean() == pytest.approx(test.y[part].mean(), abs=0.08)


def test_random_features_approximate_the_kernel():
    rng = np.random.default_rng(4)
    x = rng.normal(size=(40, 3)).astype(np.float32)
    model = SVM(SVM.Params(components=20_000, width=0.9))
    model._draw_random_features(3, seed=1)
    features = model._features(x)[:, 3:].astype(np.float64)
    squared_distances = ((x[:, None] - x[None]) ** 2).sum(axis=2)
    kernel = np.exp(-0.9 / 3 * squared_distances)
    np.testing.assert_allclose(features @ features.T, kernel, atol=0.04)


def test_the_linear_machine_equals_scikit_learns():
    rng = np.random.default_rng(5)
    x = rng.normal(size=(600, 4)).astype(np.float32)
    y = (rng.random(600) < 1 / (1 + np.exp(1 - x @ [2, 1, 0, -1]))).astype(np.int8)
    train, l2 = plain_sequences(x, y), 1e-2
    ours = fit(train, train, kernel="linear", l2=l2).coef
    # It minimises |w|^2 / 2 + C sum max(0, 1 - m)^2, and penalises the intercept by 1 / scaling^2.
    reference = LinearSVC(
        C=1 / (2 * l2 * 600),
        class_weight={c: 0.5 / (y == c).mean() for c in (0, 1)},
        intercept_scaling=1000,
        tol=1e-8,
        max_iter=100_000,
    )
    reference.fit(x.astype(np.float64), y)
    np.testing.assert_allclose(ours[1:], reference.coef_[0], atol=2e-3)
