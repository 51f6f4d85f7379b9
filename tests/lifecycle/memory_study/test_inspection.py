"""Gradients equal finite differences, and gates are those of the network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsheet.errors import CheckFailed
from flowsheet.lifecycle.memory_study.inspection import compute_input_gradients, trace_lstm_gates
from flowsheet.models._recurrent import RecurrentModel
from flowsheet.models.base import MODELS, Context
from flowsheet.testing.sequences import toy_sequences
from flowsheet.windows.sequences import Sequences

KINDS = ("lstm", "gru", "rnn")


def fit_recurrent(kind: str, **params: Any) -> RecurrentModel:
    """A small model in double precision."""
    model_class = MODELS.get(kind)
    small = {"epochs": 2, "hidden": 6, "embedding": 5, "history": True}
    model = model_class(model_class.Params(**{**small, **params}))
    model.fit(toy_sequences(40, 1, raw=False), toy_sequences(20, 2, raw=False), Context(seed=1))
    assert isinstance(model, RecurrentModel)
    for net in model.nets:
        net.double()
    return model


@pytest.fixture(scope="module")
def models() -> dict[str, RecurrentModel]:
    return {kind: fit_recurrent(kind, ensemble_size=2 if kind == "gru" else 1) for kind in KINDS}


def make_long_stays(seed: int, lags: int) -> Sequences:
    sequences = toy_sequences(40, seed, raw=False)
    return sequences.take(sequences.lengths > lags)


def last_log_odds(model: RecurrentModel, x: torch.Tensor) -> torch.Tensor:
    """Of inputs (T, n, F), shape (n,)."""
    with torch.no_grad():
        states = [net.initial_state(x.shape[1]) for net in model.nets]
        logits = [net(x, state)[0][-1] for net, state in zip(model.nets, states, strict=True)]
        return torch.stack(logits).mean(dim=0)


def finite_differences(model: RecurrentModel, x: torch.Tensor, lags: int) -> torch.Tensor:
    """Central differences of the last log odds by the inputs (T, F), shape (lags + 1, F)."""
    width, small = x.shape[1], 1e-6
    change = torch.zeros(len(x), (lags + 1) * width, width, dtype=x.dtype)
    for lag in range(lags + 1):
        columns = slice(lag * width, (lag + 1) * width)
        change[-1 - lag, columns] = small * torch.eye(width, dtype=x.dtype)
    above, below = (last_log_odds(model, x[:, None] + sign * change) for sign in (1, -1))
    return ((above - below) / (2 * small)).view(lags + 1, width)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(3, 30))
def test_gradients_equal_finite_differences(models, kind: str, seed: int):
    model, lags = models[kind], 3
    sequences = make_long_stays(seed, lags).take(np.arange(2))
    gradients = compute_input_gradients(model, sequences, lags)
    inputs = model.network_inputs(sequences).double()
    for stay in range(2):
        x = inputs[int(sequences.offsets[stay]) : int(sequences.offsets[stay + 1])]
        expected = finite_differences(model, x, lags).norm(dim=1).numpy()
        np.testing.assert_allclose(gradients[stay], expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_a_stay_do_not_depend_on_other_stays(models, kind: str):
    sequences = make_long_stays(4, 4)
    together = compute_input_gradients(models[kind], sequences, 4)
    alone = [
        compute_input_gradients(models[kind], sequences.take(np.array([i])), 4)[0]
        for i in range(len(sequences))
    ]
    np.testing.assert_allclose(together, alone, rtol=1e-9)


def test_a_network_of_two_layers_can_be_inspected():
    model = fit_recurrent("lstm", layers=2, embedding=0, layer_norm=False, skip=False)
    sequences = make_long_stays(5, 2)
    assert (compute_input_gradients(model, sequences, 2) > 0).all()
    gates = trace_lstm_gates(model, sequences)
    assert gates.cell.shape == (sequences.lengths[0], 6)


def test_a_stay_shorter_than_the_lags_is_refused(models):
    sequences = toy_sequences(5, 1, raw=False)
    with pytest.raises(CheckFailed, match="need stays of"):
        compute_input_gradients(models["rnn"], sequences, int(sequences.lengths.min()))


def test_gates_are_shares_and_reproduce_the_state_of_the_network(models):
    model = models["lstm"]
    sequences = make_long_stays(6, 3)
    gates = trace_lstm_gates(model, sequences)
    for gate in (gates.input, gates.forget, gates.output):
        assert ((gate > 0) & (gate < 1)).all()
    net = model.nets[0]
    x = model.network_inputs(sequences.take(np.array([0]))).double()
    with torch.no_grad():
        _, ((h, c),) = net(x[:, None], net.initial_state(1))
    np.testing.assert_allclose(gates.cell[-1], c[0], rtol=1e-9)
    np.testing.assert_allclose(gates.output[-1] * np.tanh(gates.cell[-1]), h[0], rtol=1e-9)


def test_gates_of_a_row_do_not_depend_on_later_rows(models):
    sequences = make_long_stays(7, 3).take(np.array([0]))
    x = np.array(sequences.x)
    x[-1] += 1
    gates = trace_lstm_gates(models["lstm"], sequences)
    changed = trace_lstm_gates(models["lstm"], replace(sequences, x=x))
    np.testing.assert_array_equal(gates.cell[:-1], changed.cell[:-1])
    assert not np.array_equal(gates.cell[-1], changed.cell[-1])


def test_only_an_lstm_has_gates(models):
    with pytest.raises(CheckFailed, match="no LSTM layer"):
        trace_lstm_gates(models["gru"], make_long_stays(6, 3))


def test_a_model_of_one_class_has_no_network():
    sequences = toy_sequences(10, 1, raw=False)
    model = MODELS.get("rnn")(MODELS.get("rnn").Params())
    model.fit(replace(sequences, y=np.zeros_like(sequences.y)), sequences, Context(seed=1))
    assert isinstance(model, RecurrentModel)
    with pytest.raises(CheckFailed, match="one class only"):
        compute_input_gradients(model, sequences, 0)
