"""Logistic regression equals scikit-learn's, and reports its coefficients by name."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression as SklearnLogisticRegression

from flowsheet.models.base import Context
from flowsheet.models.logistic_regression import LogisticRegression
from flowsheet.testing.sequences import toy_sequences


def fit(train, **params):
    model = LogisticRegression(LogisticRegression.Params(**params))
    model.fit(train, train, Context(seed=1))
    return model


@pytest.mark.parametrize("l2", [1e-4, 1e-2, 1.0])
def test_same_minimum_as_scikit_learn(l2):
    train = toy_sequences(80, 1, raw=False)
    x, y = train.x[train.scored], train.y[train.scored]
    reference = SklearnLogisticRegression(C=1 / (l2 * len(y)), tol=1e-10, max_iter=10_000)
    reference.fit(x.astype(np.float64), y)
    expected = reference.predict_proba(train.x)[:, 1]
    np.testing.assert_allclose(fit(train, l2=l2).predict_proba(train), expected, atol=1e-5)


def test_coefficients_by_name():
    train = toy_sequences(80, 1, raw=False)
    table = fit(train, history=True).tables()["coefficients"]
    names = [f.name for f, varies in zip(train.features, train.varying, strict=True) if varies]
    assert table["term"].to_list() == ["intercept", *names, "history:0", "history:1", "history:2"]
    by_name = dict(table.iter_rows())
    assert by_name["hr"] > 0 > by_name["dose"]


def test_history_is_used_only_if_configured():
    train = toy_sequences(200, 1, raw=False)
    other = replace(train, history=np.zeros_like(train.history))
    without_history, with_history = fit(train), fit(train, history=True)
    p = without_history.predict_proba(train)
    assert p.tobytes() == without_history.predict_proba(other).tobytes()
    was_septic = train.scored & (train.history[:, 0] == 1)
    assert with_history.predict_proba(train)[was_septic].mean() > p[was_septic].mean() + 0.05


def test_training_rows_of_one_class_give_a_warning():
    train = toy_sequences(20, 1, raw=False)
    train = replace(train, y=np.zeros_like(train.y))
    lines = []
    model = LogisticRegression(LogisticRegression.Params())
    model.fit(train, train, Context(seed=1, progress=lines.append))
    assert lines == [
        f"warning: 0 events in {train.scored.sum()} training rows; every row gets the base rate"
    ]


def test_the_penalty_follows_the_subjects_with_the_event_and_a_given_one_wins():
    train = toy_sequences(60, 1, raw=False)
    is_event = train.scored & (train.y == 1)
    subjects = len(np.unique(train.subject_id[train.row_stay[is_event]]))
    prevalence = is_event.sum() / train.scored.sum()
    model = fit(train)
    assert model.params.l2 == pytest.approx(50 * prevalence * (1 - prevalence) / subjects)
    assert fit(train, l2=0.5).params.l2 == 0.5
    few = train.take(np.arange(20))
    model.fit(few, few, Context(seed=1))  # again, on another cohort
    assert model.params.l2 == LogisticRegression.suggest(few)["l2"]


def test_the_coefficients_are_the_same_whichever_outcome_is_called_the_event():
    train = toy_sequences(60, 1, raw=False)
    other = replace(train, y=(1 - train.y).astype(np.int8))
    suggested = LogisticRegression.suggest(train)["l2"]
    assert suggested < 1.0
    assert LogisticRegression.suggest(other)["l2"] == pytest.approx(suggested)
    np.testing.assert_allclose(
        fit(other).predict_proba(train), 1 - fit(train).predict_proba(train), atol=1e-8
    )
