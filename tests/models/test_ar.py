"""AR(p) and ARX(p) against statsmodels; coverage of intervals; histories that cannot be used."""

from dataclasses import replace

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.special import expit

from flowsheet.errors import CheckFailed
from flowsheet.models.ar import AR
from flowsheet.models.arx import ARX
from flowsheet.models.base import Context
from flowsheet.testing.sequences import plain_sequences, toy_sequences

COEFFICIENTS = np.array([-1.5, 2.0, 0.5])


def simulate_markov_chains(stays, steps, seed):
    """Stays with logit P(y(k) = 1) = a + b_0 y(k-1) + b_1 y(k-2); two earlier states are known."""
    a, b_0, b_1 = COEFFICIENTS
    rng = np.random.default_rng(seed)
    y = np.zeros((stays, steps + 2))
    y[:, :2] = rng.random((stays, 2)) < 0.3
    for k in range(2, steps + 2):
        y[:, k] = rng.random(stays) < expit(a + b_0 * y[:, k - 1] + b_1 * y[:, k - 2])
    history = np.stack([y[:, 1:-1].ravel(), y[:, :-2].ravel()], axis=1)
    return plain_sequences(np.zeros((stays * steps, 1)), y[:, 2:].ravel(), history, length=steps)


def fit(cls, train, lines=None, **params):
    model = cls(cls.Params(**params))
    progress = [].append if lines is None else lines.append
    model.fit(train, train, Context(seed=1, progress=progress))
    return model


def fit_by_statsmodels(model, train):
    """The same model by statsmodels, with its cluster-robust covariance."""
    columns = model.matrix(train)[train.scored].astype(np.float64)
    x = sm.add_constant(columns[:, model.glm.identified[1:]])
    groups = np.repeat(train.subject_id, train.lengths)[train.scored]
    glm = sm.GLM(train.y[train.scored].astype(float), x, family=sm.families.Binomial())
    return glm.fit(tol=1e-12, maxiter=200, cov_type="cluster", cov_kwds={"groups": groups})


@pytest.mark.parametrize(("cls", "lags"), [(AR, 1), (AR, 3), (ARX, 1), (ARX, 2)])
def test_same_estimates_and_errors_as_statsmodels(cls, lags):
    train = toy_sequences(300, 1, raw=False)
    model = fit(cls, train, lags=lags)
    table, expected = model.tables()["coefficients"].drop_nulls(), fit_by_statsmodels(model, train)
    assert not model.glm.separable
    np.testing.assert_allclose(table["estimate"], expected.params, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(table["std_error"], expected.bse, rtol=1e-6)
    np.testing.assert_allclose(table["z"], expected.tvalues, rtol=1e-5, atol=1e-6)
    intervals = table.select("low", "high").to_numpy()
    np.testing.assert_allclose(intervals, expected.conf_int(), rtol=1e-5, atol=1e-6)


def test_intervals_have_their_nominal_coverage():
    """95% intervals contain each coefficient in 95% of 200 samples, within 4 standard errors."""
    covered = np.zeros(3)
    for seed in range(200):
        model = fit(AR, simulate_markov_chains(60, 12, seed), lags=2)
        table = model.tables()["coefficients"].drop_nulls()
        low, high = table["low"].to_numpy(), table["high"].to_numpy()
        covered += (low <= COEFFICIENTS) & (high >= COEFFICIENTS)
    assert (np.abs(covered / 200 - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 200)).all()


def test_repeated_and_constant_columns_are_left_out():
    train = toy_sequences(300, 1, raw=False)
    x = np.concatenate([train.x, train.x[:, :1] * 2], axis=1)
    features = (*train.features, replace(train.features[0], name="hr_again"))
    repeated = replace(train, x=x, features=features)
    model, model_of_repeated = fit(ARX, train), fit(ARX, repeated)
    table = model_of_repeated.tables()["coefficients"]
    left_out = set(table.filter(table["estimate"].is_null())["term"])
    assert {"hr_again", "never_measured", "same_for_all", "before_stay:0"} <= left_out
    p = model_of_repeated.predict_proba(repeated)
    np.testing.assert_allclose(p, model.predict_proba(train), atol=1e-9)


def test_separable_data_are_fitted_with_a_warning():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(500, 1))
    x[:, 0] = np.sign(x[:, 0])
    y = np.where(x[:, 0] > 0, 1, rng.integers(0, 2, 500))
    lines = []
    model = fit(ARX, plain_sequences(x, y, rng.integers(0, 2, (500, 1))), lines)
    assert model.tables()["fit"]["separable"].item()
    assert any("separates" in line for line in lines)
    assert np.abs(model.glm.coef).max() < 20
    assert model.tables()["coefficients"]["std_error"].is_null().all()


@pytest.mark.parametrize("cls", [AR, ARX])
@pytest.mark.parametrize("value", [0.0, np.nan])
def test_a_history_without_variation_is_rejected(cls, value):
    train = toy_sequences(50, 1, raw=False)
    constant = replace(train, history=np.full_like(train.history, value))
    with pytest.raises(CheckFailed, match="never known at prediction time"):
        fit(cls, constant)


def test_a_history_that_varies_only_in_rows_that_are_not_scored_is_rejected():
    train = toy_sequences(50, 1, raw=False)
    history = np.where(train.scored[:, None], 0, train.history).astype(np.float32)
    with pytest.raises(CheckFailed, match="every known past response is 0"):
        fit(AR, replace(train, history=history))


def test_the_task_limits_the_number_of_lags():
    lines = []
    model = fit(AR, toy_sequences(100, 1, raw=False), lines, lags=7)
    assert model.tables()["fit"]["lags"].item() == 3
    assert any("3 lags" in line for line in lines)
