"""The network around the recurrent layers: embedding, dropout, output, and prediction in blocks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Annotated, ClassVar, cast

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import linear, pad
from torch.nn.utils.rnn import PackedSequence

from flowsheet.models._batching import (
    Batch,
    Layout,
    StayInputs,
    packed,
    read_ahead,
    read_stays,
)
from flowsheet.models._rows import InputParams
from flowsheet.models._training import TrainingParams
from flowsheet.typing import Floats, Ints

State = tuple[Tensor, ...]

BLOCK_STAYS, BLOCK_STEPS = 32, 16
"""Prediction works on blocks of exactly this shape, so that a row's probability does not depend on
the other rows."""


INPUT_MULTIPLE = 16
"""Zeros fill up the inputs of the embedding to a multiple of this: with other numbers of inputs and
few units, the products of a row can depend on the row's place in the block."""


class RecurrentParams(InputParams, TrainingParams):
    """The network, and how it is trained."""

    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    """AdamW's decoupled weight decay."""
    epochs: Annotated[int, Field(ge=1)] = 14
    """Passes over the training stays, at most."""
    patience: Annotated[int, Field(ge=1)] = 14
    """Epochs without a lower validation log loss before training stops; few would stop it while the
    learning rate is still high."""
    max_gradient_norm: Annotated[float, Field(gt=0)] = 0.25
    """Gradients are clipped to this norm: batches of very short and very long stays would otherwise
    disturb training."""
    history: bool = False
    """Take the known past responses as inputs (unknown ones as 0)."""
    embedding: Annotated[int, Field(ge=0)] = 32
    """Units (ReLU) of the embedding of each row's inputs; 0: no embedding."""
    hidden: Annotated[int, Field(ge=1)] = 128
    """Units of a recurrent layer."""
    layers: Annotated[int, Field(ge=1)] = 1
    """Recurrent layers, stacked."""
    ensemble_size: Annotated[int, Field(ge=1)] | None = None
    """Networks trained in parallel from different initial weights; their log odds are averaged.
    Null: by the size of the cohort."""
    input_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3
    """Share of inputs that are dropped in training, drawn once for each stay."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3
    """Share of recurrent outputs that are dropped in training, drawn once for each stay."""
    layer_norm: bool = True
    """Normalise the last recurrent output over its units."""
    skip: bool = True
    """A skip connection from the (embedded) inputs to the output."""


class RecurrentLayer(nn.Module):
    """One recurrent layer."""

    states: ClassVar[int]
    """How many tensors of shape (n, H) make its state."""
    cell: nn.RNNBase
    """Torch's layer, or the weights in its order."""

    def reset_parameters(self) -> None:
        """Set those initial weights that should not be random."""

    @abstractmethod
    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Inputs (T, n, F) and the state before -> outputs (T, n, H) and the state after."""

    @staticmethod
    def layout(precision: str) -> Layout:
        """The fastest layout of a batch's rows on the CPU; on the GPU they are packed."""
        del precision
        return packed

    def forward_batch(self, x: Tensor, batch: Batch) -> Tensor:
        """Inputs (R, F) of a packed batch's rows -> outputs (R, H)."""
        rows = PackedSequence(x, torch.tensor(batch.batch_sizes))
        return cast(Tensor, self.cell(rows)[0].data)


class LoopedLayer(RecurrentLayer):
    """A layer with our own loop over time on the CPU, for want of a fused kernel in torch.

    Weights and results are torch's.
    """

    states = 1

    @abstractmethod
    def run_loop(self, x: Tensor, h: Tensor, batch_sizes: list[int]) -> Tensor:
        """As :func:`flowsheet.models._cells.elman`, with the layer's weights."""

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Torch's kernel on the GPU, our loop on the CPU."""
        if x.is_cuda:
            out, h = self.cell(x, state[0][None])
            return out, (h[0],)
        steps, stays = x.shape[:2]
        out = self.run_loop(x.flatten(0, 1), state[0], [stays] * steps).view(steps, stays, -1)
        return out, (out[-1],)

    def forward_batch(self, x: Tensor, batch: Batch) -> Tensor:
        """Torch's kernel on the GPU, our loop on the CPU."""
        if x.is_cuda:
            return super().forward_batch(x, batch)
        h = self.cell.all_weights[0][1].new_zeros(batch.batch_sizes[0], self.cell.hidden_size)
        return self.run_loop(x, h, batch.batch_sizes)


class RecurrentNet(nn.Module):
    """An embedding of each row, recurrent layers, and one linear output at every step."""

    def __init__(self, layer: type[RecurrentLayer], inputs: int, params: RecurrentParams) -> None:
        super().__init__()
        self.params = params
        self.embedding = nn.Linear(inputs, params.embedding) if params.embedding else None
        embedded = params.embedding or inputs
        sizes = [embedded] + [params.hidden] * (params.layers - 1)
        self.layers = nn.ModuleList(layer(size, params.hidden) for size in sizes)
        self.norm = nn.LayerNorm(params.hidden) if params.layer_norm else nn.Identity()
        self.output = nn.Linear(params.hidden, 1)
        self.skip = nn.Linear(embedded, 1, bias=False) if params.skip else None

    def initial_state(self, stays: int) -> list[State]:
        """The state before the first step, a tuple of (n, H) a layer."""
        zero = self.output.weight.new_zeros(stays, self.params.hidden)
        return [(zero,) * layer.states for layer in self.recurrent_layers()]

    def forward(self, x: Tensor, states: list[State]) -> tuple[Tensor, list[State]]:
        """Log odds (T, n) of the inputs (T, n, F), and the states after them; without dropout."""
        new_states: list[State] = []
        embedded = x = self.embed(x)
        for layer, state in zip(self.recurrent_layers(), states, strict=True):
            x, new_state = layer(x, state)
            new_states.append(new_state)
        return self.head(x, embedded, None), new_states

    def train_logits(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """Log odds (R,) of a batch's rows; dropout is drawn once for each stay."""
        masks = dropout_masks(self, batch, generator)
        embedded = x = self.embed(batch.x * masks[0])
        for i, layer in enumerate(self.recurrent_layers()):
            x = layer.forward_batch(x * masks[i] if i else x, batch)
        return self.head(x, embedded, masks[-1])

    def embed(self, x: Tensor) -> Tensor:
        """The inputs (..., F) of the recurrent layers."""
        if self.embedding is None:
            return x
        rest = -x.shape[-1] % INPUT_MULTIPLE
        weight = pad(self.embedding.weight, (0, rest))
        return torch.relu(linear(pad(x, (0, rest)), weight, self.embedding.bias))

    def head(self, x: Tensor, embedded: Tensor, mask: Tensor | None) -> Tensor:
        """Log odds (...) of recurrent outputs (..., H) and the (embedded) inputs."""
        # The products are so small that low precision would be slower.
        with torch.autocast(x.device.type, enabled=False):
            x = self.norm(x.to(self.output.weight.dtype))
            logits: Tensor = self.output(x if mask is None else x * mask)
            if self.skip is not None:
                logits = logits + self.skip(embedded.to(x.dtype))
        return logits.squeeze(-1)

    def recurrent_layers(self) -> Iterator[RecurrentLayer]:
        """The recurrent layers, the lowest first."""
        return (layer for layer in self.layers if isinstance(layer, RecurrentLayer))


def initialise(net: RecurrentNet, base_rate: float, generator: torch.Generator) -> None:
    """Draw weights uniformly within 1 / sqrt(fan in), as torch does.

    Exceptions are gates (see the layers' ``reset_parameters``) and the output, which starts at the
    base rate.
    """
    with torch.no_grad():
        bound = net.params.hidden**-0.5
        for part in (net.layers, net.output):
            for weight in part.parameters():
                weight.uniform_(-bound, bound, generator=generator)
        if net.embedding is not None:
            bound = net.embedding.in_features**-0.5
            for weight in net.embedding.parameters():
                weight.uniform_(-bound, bound, generator=generator)
        for layer in net.recurrent_layers():
            layer.reset_parameters()
        net.output.bias.fill_(float(np.log(base_rate / (1 - base_rate))))
        if net.skip is not None:
            net.skip.weight.zero_()


def dropout_masks(net: RecurrentNet, batch: Batch, generator: torch.Generator) -> list[Tensor]:
    """For each row the factors 0 or 1 / (1 - p) of the inputs and of each layer's output.

    They are drawn once for each stay (Gal and Ghahramani 2016).
    """
    params = net.params
    shares = [params.input_dropout] + [params.dropout] * params.layers
    sizes = [batch.x.shape[-1]] + [params.hidden] * params.layers
    targets = [batch.x] + [batch.y] * params.layers
    masks: list[Tensor] = []
    for share, size, target in zip(shares, sizes, targets, strict=True):
        draw = torch.rand(batch.stays, size, generator=generator)
        mask = ((draw >= share) / (1 - share)).to(target)
        masks.append(mask.index_select(0, batch.stay))
    return masks


def predict_probabilities(
    nets: Sequence[RecurrentNet], x: StayInputs, starts: Ints, lengths: Ints
) -> Floats:
    """The ensemble's probability of every row.

    Stays of similar length are predicted together, always in blocks of one shape.

    Args:
        nets: The networks, whose log odds are averaged.
        x: Inputs (N, F).
        starts: First row of each stay (S,).
        lengths: Rows of each stay (S,).

    Returns:
        Probabilities (N,).
    """
    out = torch.zeros(int(lengths.sum()) + 1, device=next(nets[0].parameters()).device)
    order = np.argsort(lengths, kind="stable")
    groups = (order[i : i + BLOCK_STAYS] for i in range(0, len(order), BLOCK_STAYS))
    inputs = ((stays, *read_stays(x, stays, starts[stays])) for stays in groups)
    with torch.no_grad():
        for stays, own_x, own_starts in read_ahead(x, inputs):
            block = _predict_block(nets, own_x, own_starts, lengths[stays])
            for first_step, probabilities in block:
                _store(probabilities, starts[stays], lengths[stays], first_step, out)
    return out[:-1].cpu().numpy().astype(np.float64)


def _predict_block(
    nets: Sequence[RecurrentNet], x: Tensor, starts: Ints, lengths: Ints
) -> Iterator[tuple[int, Tensor]]:
    """First step and probabilities (``BLOCK_STEPS``, ``BLOCK_STAYS``) of some stays' blocks."""
    states = [net.initial_state(BLOCK_STAYS) for net in nets]
    for first_step in range(0, int(lengths.max()), BLOCK_STEPS):
        is_row, rows = _find_rows(starts, lengths, first_step, x.device)
        source = torch.where(is_row, rows, 0).view(-1)
        block = x.index_select(0, source).view(BLOCK_STEPS, BLOCK_STAYS, -1)
        mean_logits = torch.zeros(BLOCK_STEPS, BLOCK_STAYS, device=x.device)
        for i, net in enumerate(nets):
            logits, states[i] = net(block, states[i])
            mean_logits += logits / len(nets)
        yield first_step, mean_logits.sigmoid()


def _store(
    probabilities: Tensor, starts: Ints, lengths: Ints, first_step: int, out: Tensor
) -> None:
    """Write the probabilities of a block into ``out`` (N + 1,); padding goes to its end.

    Args:
        probabilities: Of the block.
        starts: First row of each stay in ``out``.
        lengths: Rows of each stay.
        first_step: The block's first step.
        out: Probabilities of all rows.
    """
    is_row, rows = _find_rows(starts, lengths, first_step, out.device)
    target = torch.where(is_row, rows, len(out) - 1).view(-1)
    out.index_copy_(0, target, probabilities.view(-1))


def _find_rows(
    starts: Ints, lengths: Ints, first_step: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Whether each place of a block is a row of a stay, and which one."""
    missing = BLOCK_STAYS - len(starts)
    starts, lengths = np.pad(starts, (0, missing)), np.pad(lengths, (0, missing))
    step = np.arange(first_step, first_step + BLOCK_STEPS)[:, None]
    is_row = torch.from_numpy(step < lengths).to(device)
    return is_row, torch.from_numpy(starts + step).to(device)
