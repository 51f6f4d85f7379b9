"""Dose responses: a known law is given back, and a model without a memory has none after the dose's own step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsheet.errors import CheckFailed
from flowsheet.lifecycle.memory_study import dose_response, long_stays, old_doses
from flowsheet.models.base import MODELS, Context
from flowsheet.testing.models import toy_sequences
from flowsheet.windows.sequences import Feature, Sequences


def ward(stays: int, seed: int, shortest: int = 9) -> Sequences:
    """Stays with a drug in column 0 and another input, whose response hangs on today's and earlier doses."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(shortest, shortest + 8, stays)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    rows = int(offsets[-1])
    x = np.stack([10.0 * (rng.random(rows) < 0.3), rng.normal(size=rows)], axis=1).astype(
        np.float32
    )
    y = (rng.random(rows) < 1 / (1 + np.exp(-x[:, 0] / 10 - x[:, 1]))).astype(np.int8)
    before = np.concatenate([[np.nan], y[:-1]]).astype(np.float32)
    before[offsets[:-1]] = np.nan
    return Sequences(
        x=x,
        y=y,
        scored=np.ones(rows, bool),
        in_state=np.zeros(rows, bool),
        history=before[:, None],
        step=np.concatenate([np.arange(1, n + 1) for n in lengths]).astype(np.int32),
        offsets=offsets,
        stay_id=np.arange(stays) + 1,
        subject_id=np.arange(stays) + 1,
        features=(
            Feature("insulin_dose", "treatment", "insulin"),
            Feature("hr_last", "value", "hr"),
        ),
    )


def remembering(kernel: np.ndarray):
    """Probabilities under a law in which each dose acts by the kernel."""

    def predict(sequences: Sequences) -> np.ndarray:
        eta = np.array(sequences.x[:, 1], np.float64)
        for start, stop in zip(sequences.offsets[:-1], sequences.offsets[1:], strict=True):
            eta[start:stop] += np.convolve(sequences.x[start:stop, 0].astype(float), kernel)[
                : stop - start
            ]
        return 1 / (1 + np.exp(-eta))

    return predict


@settings(max_examples=20, deadline=None)
@given(
    kernel=st.lists(st.floats(-0.2, 0.2), min_size=1, max_size=12),
    seed=st.integers(0, 99),
    dose=st.floats(1, 10),
)
def test_the_response_of_a_law_is_its_kernel(kernel: list[float], seed: int, dose: float):
    found = dose_response(
        remembering(np.array(kernel)), ward(12, seed), 0, dose=dose, lags=8, seed=seed
    )
    law = np.pad(kernel, (0, 9))[:9] * np.float32(dose)
    np.testing.assert_allclose(found, np.broadcast_to(law, found.shape), atol=1e-6)


@pytest.mark.parametrize("kind", ["logistic_regression", "arx", "ar1", "mlp", "naive_bayes"])
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**31), dose=st.floats(0.5, 50))
def test_without_a_memory_it_is_exactly_nothing_after_the_own_step(
    kind: str, seed: int, dose: float
):
    model = fitted(kind)
    found = dose_response(
        model.predict_proba, ward(10, seed % 1000), 0, dose=dose, lags=8, seed=seed
    )
    assert (found[:, 1:] == 0).all()
    if kind in ("logistic_regression", "arx"):
        assert (found[:, 0] > 0).all()
    if kind == "ar1":
        assert (found == 0).all()


_FITTED: dict[str, object] = {}


def fitted(kind: str):
    if kind not in _FITTED:
        cls = MODELS.get(kind)
        model = cls(cls.Params(epochs=2) if kind == "mlp" else cls.Params())
        model.fit(ward(80, 1), ward(30, 2), Context(seed=1))
        _FITTED[kind] = model
    return _FITTED[kind]


def test_long_stays_are_long_few_enough_and_the_same_each_time():
    sequences = ward(60, 3)
    found = long_stays(sequences, 12, 7, seed=1)
    assert len(found) == 7
    assert found.lengths.min() > 12
    assert found.stay_id.tolist() == sorted(found.stay_id.tolist())
    assert found.stay_id.tolist() == long_stays(sequences, 12, 7, seed=1).stay_id.tolist()
    with pytest.raises(CheckFailed, match="more than 99 steps"):
        long_stays(sequences, 99, 7, seed=1)


def test_old_doses_are_those_given_long_ago():
    sequences = ward(3, 4)
    x = np.zeros_like(sequences.x)
    x[sequences.offsets[1], 0] = 2.0  # the second stay's first row
    curve = np.array([5.0, 5.0, 5.0, 0.5, 0.25])
    owed = old_doses(replace(sequences, x=x), {"insulin": 0}, {"insulin": curve}, since=3)
    expected = 2 * (0.5 + 0.25) / sequences.lengths[1]
    assert owed.tolist() == pytest.approx([0, expected, 0])


def test_the_toy_s_own_stays_may_be_followed():
    sequences = toy_sequences(30, 1, raw=True)
    assert (long_stays(sequences, 2, 5, seed=0).lengths > 2).all()
