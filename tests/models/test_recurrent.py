"""The recurrent layers, and what only recurrent models promise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from flowsheet.models._recurrent import RecurrentLayer, RecurrentModel
from flowsheet.models.base import MODELS, Context
from flowsheet.models.gru import GRULayer
from flowsheet.models.lstm import LSTMLayer
from flowsheet.models.rnn import ElmanLayer
from flowsheet.testing.models import toy_sequences
from flowsheet.windows.sequences import Sequences

KINDS = ("lstm", "gru", "rnn")
LAYERS: list[tuple[type[RecurrentLayer], type[nn.RNNBase]]] = [
    (LSTMLayer, nn.LSTM),
    (GRULayer, nn.GRU),
    (ElmanLayer, nn.RNN),
]


def fit(kind: str, train: Sequences, **params: Any) -> RecurrentModel:
    cls = MODELS.get(kind)
    model = cls(cls.Params(**{"epochs": 3, "hidden": 16, **params}))
    model.fit(train, toy_sequences(20, 2, raw=False), Context(seed=1))
    assert isinstance(model, RecurrentModel)
    return model


@pytest.fixture(scope="module")
def train() -> Sequences:
    return toy_sequences(60, 1, raw=False)


@pytest.mark.parametrize(("layer", "plain"), LAYERS)
def test_a_layer_is_torchs_own(layer: type[RecurrentLayer], plain: type[nn.RNNBase]) -> None:
    """Outputs, states and all gradients, in two parts as in one."""
    torch.manual_seed(0)
    ours = layer(4, 6).double()  # type: ignore[call-arg]
    reference = plain(4, 6).double()
    reference.load_state_dict(ours.cell.state_dict())  # type: ignore[union-attr]
    x = torch.randn(9, 3, 4, dtype=torch.float64, requires_grad=True)
    state = tuple(
        torch.randn(3, 6, dtype=torch.float64, requires_grad=True) for _ in range(layer.states)
    )
    weight = torch.randn(9, 3, 6, dtype=torch.float64)
    first, between = ours.run(x[:5], state)
    second, after = ours.run(x[5:], between)
    packed = tuple(t[None] for t in state)
    expected, last = reference(x, packed if layer.states == 2 else packed[0])
    torch.testing.assert_close(torch.cat([first, second]), expected)
    torch.testing.assert_close(after[0], (last[0] if layer.states == 2 else last)[0])
    gradients = [
        torch.autograd.grad((out * weight).sum(), [x, *state, *module.parameters()])
        for out, module in ((torch.cat([first, second]), ours), (expected, reference))
    ]
    for mine, torchs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, torchs)


@pytest.mark.parametrize("kind", KINDS)
def test_a_prediction_depends_on_the_stays_own_past_only(kind: str, train: Sequences) -> None:
    """Bit for bit: whatever the company, and however much of the stay is still to come."""
    model = fit(kind, train)
    stays = toy_sequences(70, 3, raw=False)
    together = model.predict_proba(stays)
    for s in range(0, len(stays), 7):
        alone = stays.take(np.array([s]))
        for upto in {1, alone.rows // 2 + 1, alone.rows}:
            begun = first_rows(alone, upto)
            start = stays.offsets[s]
            assert model.predict_proba(begun).tobytes() == together[start : start + upto].tobytes()


def first_rows(stay: Sequences, upto: int) -> Sequences:
    names = ("x", "y", "scored", "in_state", "history", "step")
    return replace(stay, **{n: getattr(stay, n)[:upto] for n in names}, offsets=np.array([0, upto]))


@pytest.mark.parametrize("kind", KINDS)
def test_layers_on_top_of_each_other(kind: str, train: Sequences) -> None:
    model = fit(kind, train, layers=2)
    assert np.isfinite(model.predict_proba(train)).all()
    assert model.net is not None
    assert len(model.net.layers) == 2


def test_members_learn_as_they_would_alone_and_are_averaged(
    train: Sequences, tmp_path: Path
) -> None:
    alone = fit("lstm", train, epochs=1, dropout=0.0, input_dropout=0.0)
    both = fit("lstm", train, epochs=1, dropout=0.0, input_dropout=0.0, members=2)
    for one, first in zip(alone.nets[0].parameters(), both.nets[0].parameters(), strict=True):
        torch.testing.assert_close(one, first)
    odds = []
    for net in both.nets:
        member = fit("lstm", train, epochs=1)
        member.nets = [net]
        p = member.predict_proba(train)
        odds.append(np.log(p / (1 - p)))
    assert not np.allclose(*odds)
    p = both.predict_proba(train)
    np.testing.assert_allclose(np.log(p / (1 - p)), np.mean(odds, axis=0), atol=1e-4)
    both.save(tmp_path)
    assert type(both).load(tmp_path).predict_proba(train).tobytes() == p.tobytes()


@pytest.mark.parametrize("switch", ["layer_norm", "skip", "embedding"])
def test_parts_of_the_network_can_be_left_out(train: Sequences, switch: str) -> None:
    with_it, without = fit("lstm", train), fit("lstm", train, **{switch: False})
    assert sum(p.numel() for p in without.net.parameters()) < sum(
        p.numel() for p in with_it.net.parameters()
    )  # type: ignore[union-attr]
    assert np.isfinite(without.predict_proba(train)).all()


def test_only_the_chosen_kinds_of_inputs_are_seen(train: Sequences) -> None:
    model = fit("lstm", train, inputs=("value", "static"))
    other = train.x.copy()
    other[:, train.columns("missing", "since", "treatment", "time")] += 1
    assert np.array_equal(model.predict_proba(replace(train, x=other)), model.predict_proba(train))


def test_history_is_seen_when_asked_for(train: Sequences) -> None:
    other = replace(train, history=1 - np.nan_to_num(train.history))
    without, with_it = fit("lstm", train), fit("lstm", train, history=True)
    assert np.array_equal(without.predict_proba(other), without.predict_proba(train))
    assert not np.allclose(with_it.predict_proba(other), with_it.predict_proba(train))


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_what_was_seen_long_ago_still_counts(kind: str) -> None:
    """The first row's value decides the response at the twentieth."""
    rng = np.random.default_rng(0)

    def stays(number: int) -> Sequences:
        toy = toy_sequences(2, 0, raw=False)
        x = np.zeros((number, 20, len(toy.features)), np.float32)
        x[:, 0, 0] = rng.choice([-1, 1], number)
        rows = number * 20
        step = np.tile(np.arange(1, 21, dtype=np.int32), number)
        return replace(
            toy,
            x=x.reshape(rows, -1),
            y=np.repeat(x[:, 0, 0] > 0, 20).astype(np.int8),
            scored=step == 20,
            in_state=np.zeros(rows, bool),
            history=np.zeros((rows, 3), np.float32),
            step=step,
            offsets=np.arange(0, rows + 1, 20),
            stay_id=np.arange(number),
            subject_id=np.arange(number),
        )

    cls = MODELS.get(kind)
    model = cls(
        cls.Params(
            hidden=16, epochs=30, learning_rate=0.01, dropout=0.0, input_dropout=0.0, skip=False
        )
    )
    model.fit(stays(300), stays(50), Context(seed=1))
    test = stays(100)
    p, y = model.predict_proba(test)[test.scored], test.y[test.scored]
    assert ((p > 0.5) == y).mean() > 0.95


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_learns_the_same(kind: str, train: Sequences) -> None:
    cls = MODELS.get(kind)
    fits = []
    for device in ("cpu", "cuda"):
        model = cls(cls.Params(epochs=3, hidden=16))
        model.fit(train, toy_sequences(20, 2, raw=False), Context(seed=1, device=device))
        fits.append(model.predict_proba(train))
    np.testing.assert_allclose(*fits, atol=0.02)
