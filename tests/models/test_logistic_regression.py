"""Logistic regression is scikit-learn's, and its coefficients can be read."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression as Theirs

from flowsheet.models.base import Context
from flowsheet.models.logistic_regression import LogisticRegression
from flowsheet.testing.models import toy_sequences


def fitted(train, **params):
    model = LogisticRegression(LogisticRegression.Params(**params))
    model.fit(train, train, Context(seed=1))
    return model


@pytest.mark.parametrize("l2", [1e-4, 1e-2, 1.0])
def test_same_minimum_as_scikit_learn(l2):
    train = toy_sequences(80, 1, raw=False)
    x, y = train.x[train.scored], train.y[train.scored]
    theirs = Theirs(C=1 / (l2 * len(y)), tol=1e-10, max_iter=10_000).fit(x.astype(np.float64), y)
    ours = fitted(train, l2=l2)
    np.testing.assert_allclose(
        ours.predict_proba(train), theirs.predict_proba(train.x)[:, 1], atol=1e-5
    )


def test_coefficients_by_name():
    train = toy_sequences(80, 1, raw=False)
    table = fitted(train, history=True).tables()["coefficients"]
    names = [f.name for f in train.features]
    assert table["term"].to_list() == ["intercept", *names, "history:0", "history:1", "history:2"]
    by_name = dict(table.iter_rows())
    assert by_name["hr"] > 0 > by_name["dose"]
    assert abs(by_name["never_measured"]) < 1e-12


def test_history_helps_only_when_it_is_asked_for():
    train = toy_sequences(200, 1, raw=False)
    blind = replace(train, history=np.zeros_like(train.history))
    without, with_history = fitted(train), fitted(train, history=True)
    assert without.predict_proba(train).tobytes() == without.predict_proba(blind).tobytes()
    known = train.scored & (train.history[:, 0] == 1)
    gain = (
        with_history.predict_proba(train)[known].mean() - without.predict_proba(train)[known].mean()
    )
    assert gain > 0.05


def test_one_class_is_said_aloud():
    train = toy_sequences(20, 1, raw=False)
    train = replace(train, y=np.zeros_like(train.y))
    told = []
    model = LogisticRegression(LogisticRegression.Params())
    model.fit(train, train, Context(seed=1, progress=told.append))
    assert told == [
        f"warning: 0 events in {train.scored.sum()} training rows; every row gets the base rate"
    ]
