"""What each input adds to the log odds: exact where a model allows it, and without surprises."""

import numpy as np
import pytest
import torch

from flowsheet.errors import CheckFailed
from flowsheet.models import _gradients
from flowsheet.models._gradients import integrate_gradients
from flowsheet.models._replacement import explain_by_replacement
from flowsheet.models.base import MODELS, Context
from flowsheet.numerics import log_odds
from flowsheet.testing.sequences import FEATURES, toy_sequences

ROWS = np.array([0, 3, 20, 21, 40])
NAMES = [feature.name for feature in FEATURES]


def fit(kind, **params):
    """A quick fit, and sequences that it can explain."""
    cls = MODELS.get(kind)
    raw = not cls.capabilities.scaled
    train, valid, test = (toy_sequences(n, n, raw) for n in (60, 30, 20))
    model = cls(cls.Params(**params))
    model.fit(train, valid, Context(seed=1))
    return model, train, test


def test_a_logistic_regression_adds_its_coefficients_times_the_distance_from_the_mean():
    model, train, test = fit("logistic_regression")
    values = model.explain(test, ROWS).totals
    lactate, dose = NAMES.index("lactate"), NAMES.index("dose")
    mean = train.x[train.scored, lactate].mean(dtype=np.float64)
    coef = dict(zip(model.terms, model.coef[1:], strict=True))
    expected = coef["lactate"] * (test.x[ROWS, lactate] - mean)
    np.testing.assert_allclose(values[:, lactate], expected, atol=1e-9)
    np.testing.assert_allclose(values[:, dose], coef["dose"] * test.x[ROWS, dose])


def test_both_columns_of_a_past_response_count_as_that_response():
    model, _, test = fit("ar", lags=2)
    explained = model.explain(test, ROWS)
    x, coef, features = model.matrix(test, ROWS), model.glm.coef[1:], len(FEATURES)
    moved = (x - model.reference) * coef
    np.testing.assert_allclose(explained.totals[:, features], moved[:, 0] + moved[:, 2])
    assert (explained.totals[:, :features] == 0).all()


def test_naive_bayes_adds_log_ratios_times_the_slope_of_platts_curve():
    model, _, test = fit("naive_bayes")
    values = model.explain(test, ROWS).totals
    for j, column in zip(model.selected, model.column_fits, strict=True):
        expected = model.platt.slope * column.evidence(test.x[ROWS, j])
        np.testing.assert_allclose(values[:, j], expected)


def test_the_lags_of_an_input_are_added_to_it():
    model, _, test = fit("gradient_boosting", rounds=20)
    columns = model.matrix(test.select_features(model.selected), ROWS)
    by_column = model.booster.predict(columns, pred_contrib=True)
    totals = model.explain(test, ROWS).totals
    of_dose = [i for i, term in enumerate(model.terms) if term.split(":")[0] == "dose"]
    assert len(of_dose) > 1
    np.testing.assert_allclose(totals[:, NAMES.index("dose")], by_column[:, of_dose].sum(axis=1))
    counts = [i for i, term in enumerate(model.terms) if term.startswith("hr:count")]
    own = by_column[:, [model.terms.index("hr_missing"), *counts]].sum(axis=1)
    np.testing.assert_allclose(totals[:, NAMES.index("hr_missing")], own)


@pytest.mark.parametrize("size", [1, 3])
def test_an_ensemble_is_explained_as_the_mean_of_its_log_odds(size):
    model, _, test = fit("gru", epochs=6, hidden=8, ensemble_size=size)
    explained = model.explain(test, ROWS)
    expected = log_odds(model.predict_proba(test)[ROWS])
    np.testing.assert_allclose(explained.baseline + explained.totals.sum(1), expected, atol=1e-5)
    lengths = test.step[ROWS] - test.step[test.offsets[test.row_stay[ROWS]]] + 1
    assert (np.diff(explained.offsets) == lengths).all()


def test_integrals_are_within_one_percent_before_the_rest_is_spread():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(6, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1))
    x = 2 * torch.randn(50, 3, 6)

    def logits(points, predictions):
        return net(points).sum(dim=(1, 2))

    baseline, outputs, values, missed = integrate_gradients(logits, x, torch.zeros(6))
    difference = outputs - baseline
    assert (missed.abs() <= 0.01 * values.abs().sum(dim=(1, 2)) + 1e-5).all()
    torch.testing.assert_close(values.sum(dim=(1, 2)), difference, atol=1e-4, rtol=1e-4)


def test_integrals_over_long_pasts_are_computed_in_parts(monkeypatch):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(6, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1))
    x = torch.randn(5, 40, 6)
    evaluated = []

    def logits(points, predictions):
        evaluated.append(len(points) * points.shape[1])
        return net(points).sum(dim=(1, 2))

    whole = integrate_gradients(logits, x, torch.zeros(6))
    monkeypatch.setattr(_gradients, "BATCH_ROWS", 200)
    evaluated.clear()
    in_parts = integrate_gradients(logits, x, torch.zeros(6))
    assert max(evaluated) == 5 * 40  # five points, or the predictions themselves
    torch.testing.assert_close(in_parts.values, whole.values, atol=1e-6, rtol=1e-5)


def test_a_model_without_its_own_way_is_explained_by_its_predictions():
    model, _, test = fit("logistic_regression")
    explained = explain_by_replacement(model, test, ROWS)
    np.testing.assert_allclose(explained.baseline, model.coef[0], atol=1e-6)
    expected = np.zeros((len(ROWS), len(NAMES)))
    expected[:, model.selected] = model.coef[1:] * test.x[ROWS][:, model.selected]
    np.testing.assert_allclose(explained.values[:, : len(NAMES)], expected, atol=1e-9)


def test_a_model_saved_by_an_earlier_release_says_that_it_must_be_trained_again(tmp_path):
    model, _, test = fit("logistic_regression")
    model.reference = None
    model.save(tmp_path)
    loaded = MODELS.get("logistic_regression").load(tmp_path)
    assert loaded.predict_proba(test).shape == (test.rows,)
    with pytest.raises(CheckFailed, match="train it again"):
        loaded.explain(test, ROWS)
