"""Inspection of trained recurrent models: input gradients by lag, and the gates of an LSTM."""

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

STAYS_PER_BATCH = 32


@dataclass(frozen=True)
class GateTrace:
    """The gates and the cell of an LSTM layer of H units along T rows of a stay; shapes (T, H)."""

    input: Floats  # share of the candidate that is written to the cell, 0..1
    forget: Floats  # share of the previous cell that is kept, 0..1
    output: Floats  # share of the cell that is passed on, 0..1
    cell: Floats


def compute_input_gradients(model: RecurrentModel, sequences: Sequences, lags: int) -> Floats:
    """How strongly each stay's last prediction depends on its inputs 0..lags rows earlier.

    The Euclidean norm, over the inputs of one row, of the gradient of the last row's log odds (the
    mean over the ensemble). The inputs are those of the network: scaled, response history included.

    Args:
        model: a trained model.
        sequences: scaled, S stays of more than ``lags`` rows each.
        lags: how many rows back the gradient is followed.

    Returns:
        Norms, shape (S, lags + 1).

    Raises:
        CheckFailed: a stay is too short, or the model has no network (one class only in training).
    """
    if len(sequences) and sequences.lengths.min() <= lags:
        raise CheckFailed(f"gradients {lags} rows back need stays of {lags + 1} rows or more")
    nets = _networks(model)
    with torch_threads(1):
        parts = [_gradients(nets, x, lengths, lags) for x, lengths in _batches(model, sequences)]
    return np.concatenate(parts) if parts else np.zeros((0, lags + 1))


def _gradients(nets: list[RecurrentNet], x: Tensor, lengths: Ints, lags: int) -> Floats:
    x.requires_grad_(True)
    last, stay = torch.from_numpy(lengths - 1), torch.arange(len(lengths))
    logits = torch.stack([net(x, net.initial_state(len(lengths)))[0] for net in nets]).mean(dim=0)
    (gradient,) = torch.autograd.grad(logits[last, stay].sum(), x)
    rows = last[:, None] - torch.arange(lags + 1)
    return np.asarray(gradient.norm(dim=-1)[rows, stay[:, None]].numpy(), np.float64)


def trace_lstm_gates(model: RecurrentModel, sequences: Sequences) -> GateTrace:
    """The gates and the cell of the top LSTM layer of the first network, along the first stay.

    Equations and order of the gates are those of ``torch.nn.LSTM``; ``sequences`` are scaled.

    Raises:
        CheckFailed: the model has no LSTM layer.
    """
    net = _networks(model)[0]
    layers = [module for module in net.modules() if isinstance(module, nn.LSTM)]
    if not layers:
        raise CheckFailed(f"{type(model).__name__} has no LSTM layer and therefore no gates")
    layer_inputs: list[Tensor] = []
    hook = layers[-1].register_forward_hook(
        lambda module, inputs, output: layer_inputs.append(inputs[0].detach())
    )
    try:
        with torch.no_grad(), torch_threads(1):
            x, _ = next(_batches(model, sequences.take(np.array([0]))))
            net(x, net.initial_state(1))
            return _run_layer(layers[-1], layer_inputs[0][:, 0])
    finally:
        hook.remove()


def _run_layer(layer: nn.LSTM, x: Tensor) -> GateTrace:
    """The recurrence of the layer, step by step; x has shape (T, F)."""
    w_input, w_hidden, b_input, b_hidden = layer.all_weights[0]
    h = cell = x.new_zeros(layer.hidden_size)
    steps = []
    for projected in x @ w_input.t() + b_input + b_hidden:
        i, f, g, o = (projected + w_hidden @ h).chunk(4)
        i, f, o = i.sigmoid(), f.sigmoid(), o.sigmoid()
        cell = f * cell + i * g.tanh()
        h = o * cell.tanh()
        steps.append(torch.stack([i, f, o, cell]))
    return GateTrace(*torch.stack(steps, dim=1).numpy().astype(np.float64))


def _networks(model: RecurrentModel) -> list[RecurrentNet]:
    if not model.nets:
        raise CheckFailed(
            f"{type(model).__name__} has no network: its training rows were of one class only"
        )
    return model.nets


def _batches(model: RecurrentModel, sequences: Sequences) -> Iterator[tuple[Tensor, Ints]]:
    """Inputs (T, n, F), zero after the end of a stay, and lengths (n,) of some stays at a time."""
    inputs = model.network_inputs(sequences).to(model.nets[0].output.weight.dtype)
    for first in range(0, len(sequences), STAYS_PER_BATCH):
        starts = sequences.offsets[first : first + STAYS_PER_BATCH]
        lengths = sequences.lengths[first : first + STAYS_PER_BATCH]
        x = inputs.new_zeros(int(lengths.max()), len(lengths), inputs.shape[1])
        for n, (start, length) in enumerate(zip(starts, lengths, strict=False)):
            x[:length, n] = inputs[start : start + length]
        yield x, np.asarray(lengths)
