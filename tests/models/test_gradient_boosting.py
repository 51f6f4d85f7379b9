"""Trees do not depend on threads, stop by log loss, and need OpenMP."""

import builtins
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from flowsheet.errors import UsageError
from flowsheet.models.base import Context
from flowsheet.models.gradient_boosting import GradientBoosting
from flowsheet.numerics import log_loss
from flowsheet.testing.sequences import plain_sequences, toy_sequences


def fit(train, valid, params=None, **context):
    model = GradientBoosting(GradientBoosting.Params(**(params or {"rounds": 40})))
    model.fit(train, valid, Context(**{"seed": 1, **context}))
    return model


@pytest.fixture(scope="module")
def train_and_valid():
    return [toy_sequences(n, n, raw=True) for n in (400, 100)]


def test_threads_do_not_change_a_bit(train_and_valid):
    p = [
        fit(*train_and_valid, {"rounds": 10}, threads=n).predict_proba(train_and_valid[1])
        for n in (1, 2)
    ]
    assert p[0].tobytes() == p[1].tobytes()


@pytest.mark.parametrize("params", [{"extra_trees": True}, {"row_fraction": 0.5}])
def test_random_splits_and_rows_are_other_trees_and_the_same_for_a_seed(train_and_valid, params):
    plain, one, other = (
        fit(*train_and_valid, {"rounds": 10, **choice}).predict_proba(train_and_valid[1])
        for choice in ({}, params, params)
    )
    assert one.tobytes() == other.tobytes()
    assert not np.array_equal(plain, one)


def test_the_trees_up_to_the_smallest_log_loss_are_used(train_and_valid):
    """Whatever the monitored metric says, which is only reported to the tuner."""
    scores = iter(np.linspace(0.9, 0.1, 60))
    reports = []
    model = fit(
        *train_and_valid,
        {"rounds": 300, "patience": 10, "learning_rate": 0.3},
        score=lambda y, p: next(scores),
        report_score=lambda step, value: reports.append(value),
    )
    curve = model.tables()["training_curve"]
    best = curve.sort("validation_score", "round", descending=[True, False])["round"][0]
    assert model.booster.current_iteration() == best
    assert curve["round"][-1] == best + 10 < 300
    assert reports == sorted(reports, reverse=True)
    valid = train_and_valid[1]
    p = model.predict_proba(valid)[valid.scored]
    assert -log_loss(valid.y[valid.scored], p) == pytest.approx(curve["validation_score"].max())


def test_a_score_that_cannot_be_computed_is_reported_as_the_log_loss(train_and_valid):
    reports = []
    model = fit(
        *train_and_valid,
        score=lambda y, p: float("nan"),
        report_score=lambda step, value: reports.append(value),
    )
    assert reports == model.tables()["training_curve"]["validation_score"].to_list()
    assert max(reports) < 0


def test_trends_are_learned():
    """A rise over 4 steps is in no single row."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(600, 10)).cumsum(axis=1)
    y = np.zeros_like(x)
    y[:, 4:] = x[:, 4:] - x[:, :-4] > 1
    train = plain_sequences(x.reshape(-1, 1), y.ravel(), length=10)
    model = fit(train, train, {"rounds": 60, "changes": (4,)})
    assert ((model.predict_proba(train) > 0.5) == train.y).mean() > 0.95
    assert model.tables()["importances"]["feature"][0] == "x0:change4"


def test_a_missing_openmp_runtime_is_an_error_that_names_it(train_and_valid, monkeypatch):
    real_import = builtins.__import__

    def import_without_openmp(name, *args, **kwargs):
        if name == "lightgbm":
            raise OSError("libgomp.so.1: cannot open shared object file")
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", import_without_openmp)
    with pytest.raises(UsageError, match=r"(?s)LightGBM.*libgomp.*apt install libgomp1"):
        fit(*train_and_valid)


def test_the_risk_only_rises_or_falls_with_variables_that_are_said_to(train_and_valid):
    """The toy's risk rises with the heart rate; said to fall with it, it does not rise."""
    train, valid = train_and_valid
    x = np.repeat(train.x[:50], 9, axis=0)
    x[:, 0] = np.tile(np.linspace(40, 140, 9), 50)
    rows = plain_sequences(x, np.zeros(len(x)))
    rows = replace(rows, features=train.features, history=np.full((len(x), 3), np.nan, np.float32))

    def steps(**params):
        model = fit(train, valid, {"rounds": 40, "changes": (), **params})
        return np.diff(model.predict_proba(rows).reshape(50, 9), axis=1)

    assert (steps(rising=("hr",)) >= 0).all()
    assert steps(rising=("hr",)).max() > 0.01
    assert (steps(falling=("hr",)) <= 0).all()
    free = steps()
    assert free.max() > 0.01
    np.testing.assert_array_equal(steps(falling=("hr",), monotone=False), free)


def test_directions_are_of_known_variables():
    with pytest.raises(ValidationError, match="no variable 'lactate'"):
        GradientBoosting.Params(rising=("lactate",))
    with pytest.raises(ValidationError, match="rising and falling at once"):
        GradientBoosting.Params(rising=("hr",), falling=("hr",))


def test_a_value_of_few_rows_is_learned_from_where_leaves_may_be_as_small():
    """By default LightGBM leaves out columns with less than 20 rows on one side of each split."""
    toy = toy_sequences(60, 1, raw=True)
    x, dose = np.array(toy.x), [feature.name for feature in toy.features].index("dose")
    x[:, dose] = 0
    x[np.flatnonzero(toy.scored & (toy.y == 1))[:12], dose] = 1
    few = {"rounds": 5, "feature_fraction": 1.0, "changes": (), "counts": ()}
    for min_leaf, learned in ((5, True), (13, False)):
        model = GradientBoosting(GradientBoosting.Params(min_leaf=min_leaf, **few))
        model.fit(replace(toy, x=x), toy, Context(seed=1))
        splits = dict(model.tables()["importances"].select("feature", "splits").rows())
        assert (splits["dose"] > 0) == learned
