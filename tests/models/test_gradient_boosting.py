"""Trees: the same on any number of threads, stopped by the monitored metric, clear without OpenMP."""

import builtins

import numpy as np
import pytest

from flowsheet.errors import UsageError
from flowsheet.models.base import Context
from flowsheet.models.gradient_boosting import GradientBoosting
from flowsheet.testing.models import plain_sequences, toy_sequences


def fitted(train, valid, params=None, **context):
    model = GradientBoosting(GradientBoosting.Params(**(params or {"rounds": 40})))
    model.fit(train, valid, Context(**{"seed": 1, **context}))
    return model


@pytest.fixture(scope="module")
def parts():
    return [toy_sequences(n, n, raw=True) for n in (400, 100)]


def test_threads_do_not_change_a_bit(parts):
    one, two = (fitted(*parts, {"rounds": 10}, threads=n).predict_proba(parts[1]) for n in (1, 2))
    assert one.tobytes() == two.tobytes()


def test_the_round_with_the_best_score_is_kept(parts):
    told = []

    def score(y, p):
        told.append(len(told))
        return float([0.1, 0.5, 0.2, 0.3][len(told) - 1]) if len(told) < 5 else 0.0

    reports = []
    model = fitted(
        *parts,
        {"rounds": 100, "patience": 10},
        score=score,
        report_score=lambda step, value: reports.append((step, value)),
    )
    assert reports == [(5, 0.1), (10, 0.5), (15, 0.2), (20, 0.3)]
    assert model.booster.current_iteration() == 10
    assert model.tables()["training_curve"].rows() == reports


def test_a_score_that_cannot_be_computed_is_replaced_by_the_log_loss(parts):
    model = fitted(*parts, score=lambda y, p: float("nan"))
    scores = model.tables()["training_curve"]["validation_score"]
    assert scores.is_finite().all()
    assert (scores < 0).all()


def test_trends_are_seen(parts):
    """A rise over 4 steps that no single row shows."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(600, 10)).cumsum(axis=1)
    y = np.zeros_like(x)
    y[:, 4:] = x[:, 4:] - x[:, :-4] > 1
    train = plain_sequences(x.reshape(-1, 1), y.ravel(), length=10)
    p = fitted(train, train, {"rounds": 60, "changes": (4,)}).predict_proba(train)
    assert ((p > 0.5) == train.y).mean() > 0.95
    importances = fitted(train, train, {"rounds": 60, "changes": (4,)}).tables()["importances"]
    assert importances["feature"][0] == "x0:change4"


def test_a_missing_openmp_runtime_is_named(parts, monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **named):
        if name == "lightgbm":
            raise OSError("libgomp.so.1: cannot open shared object file")
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=r"(?s)LightGBM.*libgomp.*apt install libgomp1"):
        fitted(*parts)
