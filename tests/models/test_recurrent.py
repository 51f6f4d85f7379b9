"""What recurrent models promise beyond the interface of all models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import logit

from flowsheet.errors import GpuMemoryError
from flowsheet.models._networks import BLOCK_STAYS, BLOCK_STEPS, RecurrentNet
from flowsheet.models._recurrent import RecurrentModel
from flowsheet.models._training import Trainer, torch_threads
from flowsheet.models.base import MODELS, Context
from flowsheet.models.lstm import LSTM
from flowsheet.testing.sequences import toy_sequences
from flowsheet.windows.sequences import Sequences

KINDS = ("lstm", "gru", "rnn")
CUDA_ERROR = (
    "CUDA out of memory. Tried to allocate 20.50 GiB. GPU 0 has a total capacity of 15.77 GiB of "
    "which 1.25 GiB is free. Process 7 has 14.52 GiB memory in use. Of the allocated memory 14.1 "
    "GiB is allocated by PyTorch. If reserved but unallocated memory is large try setting ..."
)


def fit(kind: str, train: Sequences, **params: Any) -> RecurrentModel:
    cls = MODELS.get(kind)
    model = cls(cls.Params(**{"epochs": 3, "hidden": 16, **params}))
    model.fit(train, toy_sequences(20, 2, raw=False), Context(seed=1))
    assert isinstance(model, RecurrentModel)
    return model


@pytest.mark.parametrize(
    ("kind", "asked"),
    [
        ("lstm", r"batches of 32 stays of up to \d+ steps, in 3 networks of 2 x 9 units"),
        ("mlp", "batches of 32 blocks of 8 rows, in a network of 2 x 9 units"),
    ],
)
def test_a_gpu_without_memory_is_an_error_with_what_was_asked_and_a_way_out(
    kind: str, asked: str, train: Sequences, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_out(*_: Any) -> None:
        raise torch.OutOfMemoryError(CUDA_ERROR)

    monkeypatch.setattr(Trainer, "run", run_out)
    ensemble = {"ensemble_size": 3} if kind == "lstm" else {}
    cls = MODELS.get(kind)
    model = cls(cls.Params(batch_size=32, layers=2, hidden=9, **ensemble))
    with pytest.raises(GpuMemoryError, match=f"not the memory for {asked}") as caught:
        model.fit(train, train, Context(seed=1))
    assert caught.value.where == (
        "Tried to allocate 20.50 GiB. GPU 0 has a total capacity of 15.77 GiB of which 1.25 GiB "
        "is free"
    )
    assert "smaller batch_size or fewer hidden units" in str(caught.value.todo)
    assert "compute.device=cpu" in str(caught.value.todo)


@pytest.fixture(scope="module")
def train() -> Sequences:
    return toy_sequences(60, 1, raw=False)


@pytest.mark.parametrize("kind", KINDS)
def test_a_prediction_depends_on_the_stays_own_past_only(kind: str, train: Sequences) -> None:
    """To the last bit: neither other stays nor later rows of the stay change it."""
    model = fit(kind, train)
    stays = toy_sequences(70, 3, raw=False)
    together = model.predict_proba(stays)
    for s in range(0, len(stays), 7):
        stay = stays.take(np.array([s]))
        start = stays.offsets[s]
        for rows in {1, stay.rows // 2 + 1, stay.rows}:
            alone = model.predict_proba(first_rows(stay, rows))
            assert alone.tobytes() == together[start : start + rows].tobytes()


def first_rows(stay: Sequences, rows: int) -> Sequences:
    names = ("x", "y", "scored", "in_state", "history", "step")
    arrays = {name: getattr(stay, name)[:rows] for name in names}
    return replace(stay, **arrays, offsets=np.array([0, rows]))


@pytest.mark.parametrize("kind", KINDS)
def test_layers_can_be_stacked(kind: str, train: Sequences) -> None:
    model = fit(kind, train, layers=2)
    assert np.isfinite(model.predict_proba(train)).all()
    assert model.net is not None
    assert len(model.net.layers) == 2


def log_odds_of(model: RecurrentModel, sequences: Sequences) -> np.ndarray:
    return logit(model.predict_proba(sequences))


def test_networks_of_an_ensemble_are_trained_as_alone_and_averaged(
    train: Sequences, tmp_path: Path
) -> None:
    params = {"epochs": 1, "dropout": 0.0, "input_dropout": 0.0}
    single = fit("lstm", train, **params)
    ensemble = fit("lstm", train, **params, ensemble_size=2)
    first_weights = zip(single.nets[0].parameters(), ensemble.nets[0].parameters(), strict=True)
    for of_single, of_ensemble in first_weights:
        torch.testing.assert_close(of_single, of_ensemble)
    log_odds = []
    for net in ensemble.nets:
        single.nets = [net]
        log_odds.append(log_odds_of(single, train))
    assert not np.allclose(*log_odds)
    mean = np.mean(log_odds, axis=0)
    np.testing.assert_allclose(log_odds_of(ensemble, train), mean, atol=1e-4)
    ensemble.save(tmp_path)
    loaded = type(ensemble).load(tmp_path)
    assert np.array_equal(loaded.predict_proba(train), ensemble.predict_proba(train))


@pytest.mark.parametrize("part", ["layer_norm", "skip", "embedding"])
def test_parts_of_the_network_can_be_left_out(train: Sequences, part: str) -> None:
    complete, reduced = fit("lstm", train), fit("lstm", train, **{part: False})
    assert number_of_weights(reduced) < number_of_weights(complete)
    assert np.isfinite(reduced.predict_proba(train)).all()


def number_of_weights(model: RecurrentModel) -> int:
    assert model.net is not None
    return sum(weight.numel() for weight in model.net.parameters())


def test_only_the_chosen_kinds_of_inputs_are_used(train: Sequences) -> None:
    model = fit("lstm", train, inputs=("value", "static"))
    x = train.x.copy()
    x[:, train.columns("missing", "since", "treatment", "time")] += 1
    assert np.array_equal(model.predict_proba(replace(train, x=x)), model.predict_proba(train))


def test_history_is_used_only_if_configured(train: Sequences) -> None:
    other = replace(train, history=1 - np.nan_to_num(train.history))
    without_history, with_history = fit("lstm", train), fit("lstm", train, history=True)
    unchanged = without_history.predict_proba(train)
    assert np.array_equal(without_history.predict_proba(other), unchanged)
    assert not np.allclose(with_history.predict_proba(other), with_history.predict_proba(train))


def stays_decided_by_the_first_row(number: int, rng: np.random.Generator) -> Sequences:
    """Twenty rows a stay; the value of the first decides the response at the last."""
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


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_gated_networks_remember_an_input_for_twenty_steps(kind: str) -> None:
    rng = np.random.default_rng(0)
    train, valid, test = (stays_decided_by_the_first_row(n, rng) for n in (300, 50, 100))
    cls = MODELS.get(kind)
    params = {"hidden": 16, "epochs": 15, "learning_rate": 0.01, "skip": False}
    model = cls(cls.Params(**params, dropout=0.0, input_dropout=0.0))
    model.fit(train, valid, Context(seed=1))
    p, y = model.predict_proba(test)[test.scored], test.y[test.scored]
    assert ((p > 0.5) == y).mean() > 0.95


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("kind", KINDS)
def test_training_on_a_gpu_gives_nearly_the_same_model(kind: str, train: Sequences) -> None:
    cls = MODELS.get(kind)
    fits = []
    for device in ("cpu", "cuda"):
        model = cls(cls.Params(epochs=3, hidden=16))
        model.fit(train, toy_sequences(20, 2, raw=False), Context(seed=1, device=device))
        fits.append(model.predict_proba(train))
    np.testing.assert_allclose(*fits, atol=0.02)


@pytest.mark.parametrize("inputs", [1, 5, 7, 30, 47])
def test_the_embedding_of_a_row_does_not_depend_on_its_place_in_a_block(inputs):
    torch.manual_seed(0)
    net = RecurrentNet(LSTM.Layer, inputs, LSTM.Params(embedding=4, hidden=8))
    block, row = torch.randn(BLOCK_STEPS, BLOCK_STAYS, inputs), torch.randn(inputs)
    block[3] = row
    with torch.no_grad(), torch_threads(1):
        embedded = net.embed(block)[3]
    assert (embedded == embedded[0]).all()
