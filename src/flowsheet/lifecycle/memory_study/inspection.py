"""Looking into a trained recurrent model: how far back its predictions reach, and what its gates do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from flowsheet.errors import CheckFailed
from flowsheet.models._networks import RecurrentNet
from flowsheet.models._recurrent import RecurrentModel
from flowsheet.models._training import torch_threads
from flowsheet.typing import Floats, Ints
from flowsheet.windows.sequences import Sequences

STAYS = 32
"""Stays worked on at a time."""


@dataclass(frozen=True)
class Gates:
    """What one layer of H units did at each of T rows of a stay, each of shape (T, H)."""

    input: Floats  # share of the new that is written, 0..1
    forget: Floats  # share of the old that is kept, 0..1
    output: Floats  # share of the cell that is shown, 0..1
    cell: Floats  # the memory itself


def input_gradients(model: RecurrentModel, sequences: Sequences, lags: int) -> Floats:
    """How strongly each stay's last prediction hangs on its inputs 0..lags rows back, shape (S,
    lags + 1).

    The Euclidean norm, over the inputs of one row, of the derivative of the last row's log odds
    (the mean over the ensemble): of inputs as a network is given them, scaled, response history included.
    ``sequences`` are scaled, every stay longer than ``lags``.

    Raises:
        CheckFailed: a stay is too short, or the model has no network (one class only in training).
    """
    if len(sequences) and sequences.lengths.min() <= lags:
        raise CheckFailed(f"gradients {lags} rows back need stays of {lags + 1} rows or more")
    nets = _networks(model)
    with torch_threads(1):
        parts = [_gradients(nets, x, lengths, lags) for x, lengths in _blocks(model, sequences)]
    return np.concatenate(parts) if parts else np.zeros((0, lags + 1))


def _gradients(nets: list[RecurrentNet], x: Tensor, lengths: Ints, lags: int) -> Floats:
    x.requires_grad_(True)
    last, stay = torch.from_numpy(lengths - 1), torch.arange(len(lengths))
    logits = torch.stack([net(x, net.initial_state(len(lengths)))[0] for net in nets]).mean(dim=0)
    (slope,) = torch.autograd.grad(logits[last, stay].sum(), x)
    back = last[:, None] - torch.arange(lags + 1)
    return np.asarray(slope.norm(dim=-1)[back, stay[:, None]].numpy(), np.float64)


def lstm_gates(model: RecurrentModel, sequences: Sequences) -> Gates:
    """The gates and the cell of the top LSTM layer of the first network, along the first of the
    (scaled) stays.

    Equations and order of gates are those of ``torch.nn.LSTM``.

    Raises:
        CheckFailed: the model has no LSTM layer.
    """
    net = _networks(model)[0]
    layers = [module for module in net.modules() if isinstance(module, nn.LSTM)]
    if not layers:
        raise CheckFailed(f"{type(model).__name__} has no LSTM layer, hence no such gates")
    seen: list[Tensor] = []
    hook = layers[-1].register_forward_hook(
        lambda module, given, out: seen.append(given[0].detach())
    )
    try:
        with torch.no_grad(), torch_threads(1):
            x, _ = next(_blocks(model, sequences.take(np.array([0]))))
            net(x, net.initial_state(1))
            return _replay(layers[-1], seen[0][:, 0])
    finally:
        hook.remove()


def _replay(cell: nn.LSTM, x: Tensor) -> Gates:
    """The layer's recurrence, written out; x has shape (T, F)."""
    w, u, b, c = cell.all_weights[0]
    h = memory = x.new_zeros(cell.hidden_size)
    steps = []
    for drive in x @ w.t() + b + c:
        i, f, g, o = (drive + u @ h).chunk(4)
        i, f, o = i.sigmoid(), f.sigmoid(), o.sigmoid()
        memory = f * memory + i * g.tanh()
        h = o * memory.tanh()
        steps.append(torch.stack([i, f, o, memory]))
    return Gates(*torch.stack(steps, dim=1).numpy().astype(np.float64))


def _networks(model: RecurrentModel) -> list[RecurrentNet]:
    if not model.nets:
        raise CheckFailed(
            f"{type(model).__name__} has no network: its training rows were of one class only"
        )
    return model.nets


def _blocks(model: RecurrentModel, sequences: Sequences) -> Iterator[tuple[Tensor, Ints]]:
    """Inputs (T, n, F), zero beyond a stay's end, and the lengths (n,) of so many stays at a time."""
    inputs = model.network_inputs(sequences).to(model.nets[0].output.weight.dtype)
    for first in range(0, len(sequences), STAYS):
        starts = sequences.offsets[first : first + STAYS]
        lengths = sequences.lengths[first : first + STAYS]
        x = inputs.new_zeros(int(lengths.max()), len(lengths), inputs.shape[1])
        for n, (start, length) in enumerate(zip(starts, lengths, strict=False)):
            x[:length, n] = inputs[start : start + length]
        yield x, np.asarray(lengths)
