"""Dose responses: known effects are recovered, and memoryless models respond at lag 0 only."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsheet.errors import CheckFailed
from flowsheet.lifecycle.memory_study.dose_response import (
    compute_old_dose_effects,
    estimate_dose_response,
    sample_long_stays,
)
from flowsheet.models.base import MODELS, Context, Model
from flowsheet.testing.sequences import toy_sequences
from flowsheet.windows.sequences import Feature, Sequences


def simulate_dosed_stays(n_stays: int, seed: int) -> Sequences:
    """Stays of 9..16 rows; the response depends on the current dose and on another input."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(9, 17, n_stays)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    n_rows = int(offsets[-1])
    doses = 10.0 * (rng.random(n_rows) < 0.3)
    x = np.stack([doses, rng.normal(size=n_rows)], axis=1).astype(np.float32)
    y = (rng.random(n_rows) < 1 / (1 + np.exp(-x[:, 0] / 10 - x[:, 1]))).astype(np.int8)
    previous = np.concatenate([[np.nan], y[:-1]]).astype(np.float32)
    previous[offsets[:-1]] = np.nan
    return Sequences(
        x=x,
        y=y,
        scored=np.ones(n_rows, bool),
        in_state=np.zeros(n_rows, bool),
        history=previous[:, None],
        step=np.concatenate([np.arange(1, n + 1) for n in lengths]).astype(np.int32),
        offsets=offsets,
        stay_id=np.arange(n_stays) + 1,
        subject_id=np.arange(n_stays) + 1,
        features=(
            Feature("insulin_dose", "treatment", "insulin"),
            Feature("hr_last", "value", "hr"),
        ),
    )


def predict_with_kernel(kernel: np.ndarray):
    """A model in which each dose has the effect ``kernel`` on the following log odds."""

    def predict(sequences: Sequences) -> np.ndarray:
        log_odds = np.array(sequences.x[:, 1], np.float64)
        doses = sequences.x[:, 0].astype(float)
        for start, stop in zip(sequences.offsets[:-1], sequences.offsets[1:], strict=True):
            log_odds[start:stop] += np.convolve(doses[start:stop], kernel)[: stop - start]
        return 1 / (1 + np.exp(-log_odds))

    return predict


@settings(max_examples=20, deadline=None)
@given(
    kernel=st.lists(st.floats(-0.2, 0.2), min_size=1, max_size=12),
    seed=st.integers(0, 99),
    dose=st.floats(1, 10),
)
def test_the_response_of_a_known_effect_is_that_effect(kernel: list[float], seed: int, dose: float):
    predict, stays = predict_with_kernel(np.array(kernel)), simulate_dosed_stays(12, seed)
    response = estimate_dose_response(predict, stays, 0, dose=dose, lags=8, seed=seed)
    expected = np.pad(kernel, (0, 9))[:9] * np.float32(dose)
    np.testing.assert_allclose(response, np.broadcast_to(expected, response.shape), atol=1e-6)


@functools.cache
def fit_model(kind: str) -> Model:
    model_class = MODELS.get(kind)
    params = model_class.Params(epochs=2) if kind == "mlp" else model_class.Params()
    model = model_class(params)
    model.fit(simulate_dosed_stays(80, 1), simulate_dosed_stays(30, 2), Context(seed=1))
    return model


@pytest.mark.parametrize("kind", ["logistic_regression", "arx", "ar1", "mlp", "naive_bayes"])
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**31), dose=st.floats(0.5, 50))
def test_a_memoryless_model_responds_at_lag_0_only(kind: str, seed: int, dose: float):
    predict, stays = fit_model(kind).predict_proba, simulate_dosed_stays(10, seed % 1000)
    response = estimate_dose_response(predict, stays, 0, dose=dose, lags=8, seed=seed)
    assert (response[:, 1:] == 0).all()
    if kind in ("logistic_regression", "arx"):
        assert (response[:, 0] > 0).all()
    if kind == "ar1":
        assert (response == 0).all()


def test_a_sample_of_long_stays_is_long_limited_and_reproducible():
    stays = simulate_dosed_stays(60, 3)
    sample = sample_long_stays(stays, lags=12, max_stays=7, seed=1)
    repeated = sample_long_stays(stays, lags=12, max_stays=7, seed=1)
    assert len(sample) == 7
    assert sample.lengths.min() > 12
    assert sample.stay_id.tolist() == sorted(sample.stay_id.tolist())
    assert sample.stay_id.tolist() == repeated.stay_id.tolist()


def test_lags_longer_than_all_stays_are_refused():
    with pytest.raises(CheckFailed, match="more than 99 steps"):
        sample_long_stays(simulate_dosed_stays(60, 3), lags=99, max_stays=7, seed=1)


def test_only_old_doses_count_as_old():
    stays = simulate_dosed_stays(3, 4)
    x = np.zeros_like(stays.x)
    x[stays.offsets[1], 0] = 2.0  # the first row of the second stay
    curve = np.array([5.0, 5.0, 5.0, 0.5, 0.25])
    effects = compute_old_dose_effects(
        replace(stays, x=x), {"insulin": 0}, {"insulin": curve}, min_lag=3
    )
    expected = 2 * (0.5 + 0.25) / stays.lengths[1]
    assert effects.tolist() == pytest.approx([0, expected, 0])


def test_toy_sequences_have_long_stays():
    sequences = toy_sequences(30, 1, raw=True)
    assert (sample_long_stays(sequences, lags=2, max_stays=5, seed=0).lengths > 2).all()
