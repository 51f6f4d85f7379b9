"""AR(p): statsmodels' estimates, cluster-robust errors, honest intervals, and a past that must be known."""

from dataclasses import replace

import numpy as np
import pytest
import statsmodels.api as sm

from flowsheet.errors import CheckFailed
from flowsheet.models.ar import AR
from flowsheet.models.arx import ARX
from flowsheet.models.base import Context
from flowsheet.testing.models import plain_sequences, toy_sequences


def markov(stays, steps, seed, a=-1.5, b=(2.0, 0.5)):
    """Stays under logit P(y(k+1) = 1) = a + b_0 y(k) + b_1 y(k-1), two states before the first row known."""
    rng = np.random.default_rng(seed)
    y = np.zeros((stays, steps + 2))
    y[:, :2] = rng.random((stays, 2)) < 0.3
    for k in range(2, steps + 2):
        y[:, k] = rng.random(stays) < 1 / (
            1 + np.exp(-(a + b[0] * y[:, k - 1] + b[1] * y[:, k - 2]))
        )
    history = np.stack([y[:, 1:-1].ravel(), y[:, :-2].ravel()], axis=1)
    return plain_sequences(np.zeros((stays * steps, 1)), y[:, 2:].ravel(), history, length=steps)


def fitted(cls, train, told=None, **params):
    model = cls(cls.Params(**params))
    lines = [] if told is None else told
    model.fit(train, train, Context(seed=1, progress=lines.append))
    return model


def theirs(model, train):
    """The same model by statsmodels, with its cluster-robust covariance."""
    x = sm.add_constant(model.matrix(train)[train.scored].astype(np.float64)[:, model.glm.kept[1:]])
    groups = np.repeat(train.subject_id, train.lengths)[train.scored]
    glm = sm.GLM(train.y[train.scored].astype(float), x, family=sm.families.Binomial())
    return glm.fit(tol=1e-12, maxiter=200, cov_type="cluster", cov_kwds={"groups": groups})


@pytest.mark.parametrize(("cls", "lags"), [(AR, 1), (AR, 3), (ARX, 1), (ARX, 2)])
def test_same_estimates_and_errors_as_statsmodels(cls, lags):
    train = toy_sequences(300, 1, raw=False)
    model = fitted(cls, train, lags=lags)
    table, fit = model.tables()["coefficients"].drop_nulls(), theirs(model, train)
    assert not model.glm.separable
    np.testing.assert_allclose(table["estimate"], fit.params, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(table["std_error"], fit.bse, rtol=1e-6)
    np.testing.assert_allclose(table["z"], fit.tvalues, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        table.select("low", "high").to_numpy(), fit.conf_int(), rtol=1e-5, atol=1e-6
    )


def test_intervals_cover_the_law():
    """95% intervals hold each true coefficient in 95% of 200 wards (within 4 standard errors of that share)."""
    truth, covered = np.array([-1.5, 2.0, 0.5]), np.zeros(3)
    for seed in range(200):
        table = fitted(AR, markov(60, 12, seed), lags=2).tables()["coefficients"].drop_nulls()
        covered += (table["low"].to_numpy() <= truth) & (truth <= table["high"].to_numpy())
    assert (np.abs(covered / 200 - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 200)).all()


def test_repeated_and_constant_columns_are_left_out():
    train = toy_sequences(300, 1, raw=False)
    x = np.concatenate([train.x, train.x[:, :1] * 2], axis=1)
    twice = replace(
        train, x=x, features=(*train.features, replace(train.features[0], name="hr_again"))
    )
    once, both = fitted(ARX, train), fitted(ARX, twice)
    nulls = both.tables()["coefficients"].filter(
        both.tables()["coefficients"]["estimate"].is_null()
    )
    assert {"hr_again", "never_measured", "same_for_all", "before_stay:0"} <= set(nulls["term"])
    np.testing.assert_allclose(both.predict_proba(twice), once.predict_proba(train), atol=1e-9)


def test_separable_data_are_fitted_with_a_word():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(500, 1))
    x[:, 0] = np.sign(x[:, 0])
    y = np.where(x[:, 0] > 0, 1, rng.integers(0, 2, 500))
    told = []
    model = fitted(ARX, plain_sequences(x, y, rng.integers(0, 2, (500, 1))), told)
    assert model.tables()["fit"]["separable"].item()
    assert any("separates" in line for line in told)
    assert np.abs(model.glm.coef).max() < 20
    assert model.tables()["coefficients"]["std_error"].is_null().all()


@pytest.mark.parametrize("cls", [AR, ARX])
@pytest.mark.parametrize("never", [0.0, np.nan])
def test_a_past_that_is_never_known_is_refused(cls, never):
    train = toy_sequences(50, 1, raw=False)
    blind = replace(train, history=np.full_like(train.history, never))
    with pytest.raises(CheckFailed, match="never known at prediction time"):
        fitted(cls, blind)


def test_a_past_that_varies_only_where_nothing_is_scored_is_refused():
    train = toy_sequences(50, 1, raw=False)
    hidden = replace(
        train, history=np.where(train.scored[:, None], 0, train.history).astype(np.float32)
    )
    with pytest.raises(CheckFailed, match="every known past response is 0"):
        fitted(AR, hidden)


def test_no_more_lags_than_the_task_offers():
    told = []
    model = fitted(AR, toy_sequences(100, 1, raw=False), told, lags=7)
    assert model.tables()["fit"]["lags"].item() == 3
    assert any("3 lags" in line for line in told)
