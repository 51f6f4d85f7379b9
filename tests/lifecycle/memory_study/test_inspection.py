"""Looking into recurrent models: derivatives that are derivatives, gates that are the network's own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsheet.errors import CheckFailed
from flowsheet.lifecycle.memory_study.inspection import input_gradients, lstm_gates
from flowsheet.models._recurrent import RecurrentModel
from flowsheet.models.base import MODELS, Context
from flowsheet.testing.models import toy_sequences
from flowsheet.windows.sequences import Sequences

KINDS = ("lstm", "gru", "rnn")


def fitted(kind: str, **params: Any) -> RecurrentModel:
    cls = MODELS.get(kind)
    model = cls(cls.Params(**{"epochs": 2, "hidden": 6, "embedding": 5, "history": True, **params}))
    model.fit(toy_sequences(40, 1, raw=False), toy_sequences(20, 2, raw=False), Context(seed=1))
    assert isinstance(model, RecurrentModel)
    for net in model.nets:
        net.double()
    return model


@pytest.fixture(scope="module")
def models() -> dict[str, RecurrentModel]:
    return {kind: fitted(kind, ensemble_size=2 if kind == "gru" else 1) for kind in KINDS}


def long_stays(seed: int, lags: int) -> Sequences:
    sequences = toy_sequences(40, seed, raw=False)
    return sequences.take(sequences.lengths > lags)


def last_logits(model: RecurrentModel, x: torch.Tensor) -> torch.Tensor:
    """Of inputs (T, n, F), shape (n,)."""
    with torch.no_grad():
        return torch.stack(
            [net(x, net.initial_state(x.shape[1]))[0][-1] for net in model.nets]
        ).mean(dim=0)


def slopes(model: RecurrentModel, x: torch.Tensor, lags: int) -> torch.Tensor:
    """Central differences of the last row's log odds by the inputs (T, F) of each lag, shape (lags + 1, F)."""
    width, small = x.shape[1], 1e-6
    moved = torch.zeros(len(x), (lags + 1) * width, width, dtype=x.dtype)
    for lag in range(lags + 1):
        moved[-1 - lag, lag * width : (lag + 1) * width] = small * torch.eye(width, dtype=x.dtype)
    up, down = (last_logits(model, x[:, None] + sign * moved) for sign in (1, -1))
    return ((up - down) / (2 * small)).view(lags + 1, width)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(3, 30))
def test_gradients_are_finite_differences(models, kind: str, seed: int):
    model, lags = models[kind], 3
    sequences = long_stays(seed, lags).take(np.arange(2))
    found = input_gradients(model, sequences, lags)
    inputs = model.network_inputs(sequences).double()
    for stay in range(2):
        x = inputs[int(sequences.offsets[stay]) : int(sequences.offsets[stay + 1])]
        expected = slopes(model, x, lags).norm(dim=1).numpy()
        np.testing.assert_allclose(found[stay], expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_a_stay_do_not_depend_on_its_company(models, kind: str):
    sequences = long_stays(4, 4)
    together = input_gradients(models[kind], sequences, 4)
    alone = [
        input_gradients(models[kind], sequences.take(np.array([i])), 4)[0]
        for i in range(len(sequences))
    ]
    np.testing.assert_allclose(together, alone, rtol=1e-9)


def test_a_deep_network_too():
    model = fitted("lstm", layers=2, embedding=0, layer_norm=False, skip=False)
    sequences = long_stays(5, 2)
    assert (input_gradients(model, sequences, 2) > 0).all()
    gates = lstm_gates(model, sequences)
    assert gates.cell.shape == (sequences.lengths[0], 6)


def test_too_short_a_stay_is_refused(models):
    sequences = toy_sequences(5, 1, raw=False)
    with pytest.raises(CheckFailed, match="need stays of"):
        input_gradients(models["rnn"], sequences, int(sequences.lengths.min()))


def test_gates_are_shares_and_give_the_network_s_own_state(models):
    model = models["lstm"]
    sequences = long_stays(6, 3)
    gates = lstm_gates(model, sequences)
    for gate in (gates.input, gates.forget, gates.output):
        assert ((gate > 0) & (gate < 1)).all()
    assert model.net is not None
    x = model.network_inputs(sequences.take(np.array([0]))).double()
    with torch.no_grad():
        _, ((h, c),) = model.net(x[:, None], model.net.initial_state(1))
    np.testing.assert_allclose(gates.cell[-1], c[0], rtol=1e-9)
    np.testing.assert_allclose(gates.output[-1] * np.tanh(gates.cell[-1]), h[0], rtol=1e-9)


def test_gates_of_a_row_do_not_know_what_follows(models):
    sequences = long_stays(7, 3).take(np.array([0]))
    x = np.array(sequences.x)
    x[-1] += 1
    one, two = (
        lstm_gates(models["lstm"], sequences),
        lstm_gates(models["lstm"], replace(sequences, x=x)),
    )
    np.testing.assert_array_equal(one.cell[:-1], two.cell[:-1])
    assert not np.array_equal(one.cell[-1], two.cell[-1])


def test_only_an_lstm_has_an_lstm_s_gates(models):
    with pytest.raises(CheckFailed, match="no LSTM layer"):
        lstm_gates(models["gru"], long_stays(6, 3))


def test_a_model_of_one_class_has_no_network():
    sequences = toy_sequences(10, 1, raw=False)
    model = MODELS.get("rnn")(MODELS.get("rnn").Params())
    model.fit(replace(sequences, y=np.zeros_like(sequences.y)), sequences, Context(seed=1))
    assert isinstance(model, RecurrentModel)
    with pytest.raises(CheckFailed, match="one class only"):
        input_gradients(model, sequences, 0)
