"""What the recurrent models share: the network around the recurrent layers, and the model around the network."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Self, cast

import numpy as np
import polars as pl
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from flowsheet.config import Choice, FloatRange, Space
from flowsheet.models._batching import Batch, Layout, Table, packed, useful_lengths
from flowsheet.models._rows import base_rate, check_inputs, input_names
from flowsheet.models._training import (
    Curve,
    Trainer,
    TrainingParams,
    curve_table,
    torch_threads,
)
from flowsheet.models.base import Capabilities, Context, Model, ModelFamily
from flowsheet.state.hashing import digest
from flowsheet.state.json_files import read_json, write_json
from flowsheet.typing import Floats, Ints
from flowsheet.windows.sequences import FeatureKind, Sequences

State = tuple[Tensor, ...]

STAYS, STEPS = 32, 16
"""Prediction works on blocks of exactly this shape, so that a row's probability does not depend on its company."""


class RecurrentParams(TrainingParams):
    """The network, and how it is trained."""

    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    """AdamW's decoupled weight decay."""
    epochs: Annotated[int, Field(ge=1)] = 14
    """Passes over the training stays, at most."""
    patience: Annotated[int, Field(ge=1)] = 14
    """Epochs without a lower validation log loss before training stops; with few, before the rate has fallen."""
    clip: Annotated[float, Field(gt=0)] = 0.25
    """Largest norm of a gradient: batches of very short and very long stays would otherwise throw training back."""
    inputs: tuple[FeatureKind, ...] = ("value", "missing", "since", "treatment", "static", "time")
    """Kinds of features that the network is given."""
    history: bool = False
    """Take the known past responses as inputs (unknown ones as 0)."""
    embedding: Annotated[int, Field(ge=0)] = 32
    """Units (ReLU) through which each row's inputs reach the recurrence and the output; 0 gives them as they are."""
    hidden: Annotated[int, Field(ge=1)] = 128
    """Units of a recurrent layer."""
    layers: Annotated[int, Field(ge=1)] = 1
    """Recurrent layers on top of each other."""
    members: Annotated[int, Field(ge=1)] = 1
    """Networks that learn side by side from different first weights; their log odds are averaged."""
    input_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3
    """Share of inputs hidden from the network while training, drawn anew for each stay."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3
    """Share of recurrent outputs hidden from what follows while training, drawn anew for each stay."""
    layer_norm: bool = True
    """Normalise the last recurrent output over its units."""
    skip: bool = True
    """Let the output see the (embedded) inputs too, past the recurrence."""


class RecurrentLayer(nn.Module):
    """One recurrent layer."""

    states: ClassVar[int]
    """How many tensors of shape (n, H) it hands from one step to the next."""
    cell: nn.RNNBase
    """Torch's layer, or the weights as torch has them."""

    def begin(self) -> None:
        """Change random first weights where a layer knows better."""

    @abstractmethod
    def run(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Inputs (T, n, F) and the state before them, to outputs (T, n, H) and the state after them."""

    @staticmethod
    def layout(precision: str) -> Layout:
        """How it likes a batch's rows on the CPU; on the GPU they are packed."""
        del precision
        return packed

    def run_batch(self, x: Tensor, batch: Batch) -> Tensor:
        """Inputs (R, F) of a packed batch's rows to outputs (R, H)."""
        rows = PackedSequence(x, torch.tensor(batch.widths))
        return cast(Tensor, self.cell(rows)[0].data)


class LoopedLayer(RecurrentLayer):
    """One whose loop over time is ours on the CPU, for want of a fused kernel; weights and results are torch's."""

    states = 1

    @abstractmethod
    def loop(self, x: Tensor, h: Tensor, widths: list[int]) -> Tensor:
        """As :func:`flowsheet.models._cells.elman`, with the layer's weights."""

    def run(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Torch's kernel on the GPU, our loop on the CPU."""
        if x.is_cuda:
            out, h = self.cell(x, state[0][None])
            return out, (h[0],)
        out = self.loop(x.flatten(0, 1), state[0], [x.shape[1]] * len(x)).view(*x.shape[:2], -1)
        return out, (out[-1],)

    def run_batch(self, x: Tensor, batch: Batch) -> Tensor:
        """As :meth:`run`, of packed rows."""
        if x.is_cuda:
            return super().run_batch(x, batch)
        return self.loop(
            x,
            self.cell.all_weights[0][1].new_zeros(batch.stays, self.cell.hidden_size),
            batch.widths,
        )


class RecurrentNet(nn.Module):
    """An embedding of each row, recurrent layers, and one linear output at every step."""

    def __init__(self, layer: type[RecurrentLayer], inputs: int, params: RecurrentParams) -> None:
        super().__init__()
        self.params = params
        self.embedding = nn.Linear(inputs, params.embedding) if params.embedding else None
        seen = params.embedding or inputs
        sizes = [seen] + [params.hidden] * (params.layers - 1)
        self.layers = nn.ModuleList(layer(size, params.hidden) for size in sizes)
        self.norm = nn.LayerNorm(params.hidden) if params.layer_norm else nn.Identity()
        self.output = nn.Linear(params.hidden, 1)
        self.skip = nn.Linear(seen, 1, bias=False) if params.skip else None

    def start(self, stays: int) -> list[State]:
        """The state before the first step, a tuple of (n, H) a layer."""
        zero = self.output.weight.new_zeros(stays, self.params.hidden)
        return [(zero,) * layer.states for layer in self.recurrent()]

    def forward(self, x: Tensor, states: list[State]) -> tuple[Tensor, list[State]]:
        """Log odds (T, n) of the inputs (T, n, F), and the states after them; nothing is dropped."""
        after: list[State] = []
        seen = x = self.embed(x)
        for layer, before in zip(self.recurrent(), states, strict=True):
            x, state = layer.run(x, before)
            after.append(state)
        return self.head(x, seen, None), after

    def train_logits(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """Log odds (R,) of a batch's rows; dropout is one draw a stay, for all its steps."""
        masks = dropout_masks(self, batch, generator)
        seen = x = self.embed(batch.x * masks[0])
        for i, layer in enumerate(self.recurrent()):
            x = layer.run_batch(x * masks[i] if i else x, batch)
        return self.head(x, seen, masks[-1])

    def embed(self, x: Tensor) -> Tensor:
        """What the recurrence is given of inputs (..., F)."""
        return torch.relu(self.embedding(x)) if self.embedding is not None else x

    def head(self, x: Tensor, seen: Tensor, mask: Tensor | None) -> Tensor:
        """Log odds (...) of recurrent outputs (..., H) beside the (embedded) inputs."""
        with torch.autocast(
            x.device.type, enabled=False
        ):  # as narrow as this, low precision is slower
            x = self.norm(x.to(self.output.weight.dtype))
            logits: Tensor = self.output(x if mask is None else x * mask)
            if self.skip is not None:
                logits = logits + self.skip(seen.to(x.dtype))
        return logits.squeeze(-1)

    def recurrent(self) -> Iterator[RecurrentLayer]:
        """The recurrent layers, the lowest first."""
        return (layer for layer in self.layers if isinstance(layer, RecurrentLayer))


def initialise(net: RecurrentNet, rate: float, generator: torch.Generator) -> None:
    """Uniform within 1 / sqrt(fan in) as torch does, gates that keep the past open, the output at the base rate."""
    bound = net.params.hidden**-0.5
    with torch.no_grad():
        for part in (net.layers, net.output):
            for weight in part.parameters():
                weight.uniform_(-bound, bound, generator=generator)
        if net.embedding is not None:
            for weight in net.embedding.parameters():
                reach = net.embedding.in_features**-0.5
                weight.uniform_(-reach, reach, generator=generator)
        for layer in net.recurrent():
            layer.begin()
        net.output.bias.fill_(float(np.log(rate / (1 - rate))))
        if net.skip is not None:
            net.skip.weight.zero_()


def dropout_masks(net: RecurrentNet, batch: Batch, generator: torch.Generator) -> list[Tensor]:
    """For each row the factors 0 or 1 / (1 - p) of the inputs and of each layer's output: one draw
    a stay.

    (Gal and Ghahramani 2016.)
    """
    params = net.params
    shares = [params.input_dropout] + [params.dropout] * params.layers
    widths = [batch.x.shape[-1]] + [params.hidden] * params.layers
    draws = (torch.rand(batch.stays, w, generator=generator) for w in widths)
    likes = [batch.x] + [batch.y] * params.layers
    masks = (
        ((draw >= p) / (1 - p)).to(like) for draw, p, like in zip(draws, shares, likes, strict=True)
    )
    return [mask.index_select(0, batch.stay) for mask in masks]


Nets = Sequence[RecurrentNet]


def probabilities(nets: Nets, x: Tensor, starts: Ints, lengths: Ints) -> Floats:
    """Probability for every row of x (N, F), stays of like length together, always in blocks of one shape."""
    out = torch.zeros(len(x) + 1, device=x.device)
    order = np.argsort(lengths, kind="stable")
    with torch.no_grad():
        for i in range(0, len(order), STAYS):
            chosen = order[i : i + STAYS]
            _predict_block(
                nets, x, np.pad(starts[chosen], (0, STAYS - len(chosen))), lengths[chosen], out
            )
    return out[:-1].cpu().numpy().astype(np.float64)


def _predict_block(nets: Nets, x: Tensor, starts: Ints, lengths: Ints, out: Tensor) -> None:
    lengths = np.pad(lengths, (0, STAYS - len(lengths)))
    states = [net.start(STAYS) for net in nets]
    for begin in range(0, int(lengths.max()), STEPS):
        step = np.arange(begin, begin + STEPS)[:, None]
        inside = torch.from_numpy(step < lengths).to(x.device)
        rows = torch.from_numpy(starts + step).to(x.device)
        block = x.index_select(0, torch.where(inside, rows, 0).view(-1)).view(STEPS, STAYS, -1)
        logits = torch.zeros(STEPS, STAYS, device=x.device)
        for i, net in enumerate(nets):
            log_odds, states[i] = net(block, states[i])
            logits += log_odds / len(nets)
        out.index_copy_(0, torch.where(inside, rows, len(x)).view(-1), logits.sigmoid().view(-1))


class RecurrentModel(Model):
    """A network that reads a stay step by step and predicts at every step.

    With training rows of one class only every row gets the base rate.
    """

    Params = RecurrentParams
    Layer: ClassVar[type[RecurrentLayer]]
    version = 3
    capabilities = Capabilities(
        family=ModelFamily.recurrent,
        input_description="the whole known past",
        gpu=True,
        early_stopping=True,
    )
    space: ClassVar[Space] = {
        "hidden": Choice(of=(64, 128)),
        "learning_rate": FloatRange(low=5e-4, high=5e-3, log=True),
        "dropout": FloatRange(low=0.0, high=0.5),
        "input_dropout": FloatRange(low=0.0, high=0.4),
    }

    params: RecurrentParams
    names: list[str]
    columns: list[int]
    rate: float
    nets: list[RecurrentNet]
    """The members, one or more; none where all rows get the base rate."""
    curve: Curve

    def fit(self, train: Sequences, valid: Sequences, context: Context) -> None:
        """Train with early stopping on the scored validation rows."""
        y = train.y[train.scored]
        self.names, self.columns = input_names(train), train.columns(*self.params.inputs)
        self.rate, self.nets, self.curve = base_rate(y), [], []
        if not 0 < y.sum() < len(y):
            return
        with torch_threads(context.threads):
            self._train(train, valid, context)

    def _train(self, train: Sequences, valid: Sequences, context: Context) -> None:
        device = torch.device(context.device)
        x = self._inputs(train)
        nets, generator = self._build(x.shape[1]), torch.Generator().manual_seed(context.seed)
        for net in nets:
            initialise(net, self.rate, generator)
            net.to(device)
        table = Table(
            x=x.to(device, getattr(torch, self.params.precision)),
            y=torch.from_numpy(train.y.astype(np.float32)).to(device),
            weight=torch.from_numpy(train.scored.astype(np.float32)).to(device),
            starts=train.offsets[:-1],
            lengths=useful_lengths(train.offsets, train.scored),
        )
        seen = self._inputs(valid).to(device)
        trainer = Trainer(
            nn.ModuleList(nets),
            self.params,
            logits=lambda batch, generator: torch.stack(
                [net.train_logits(batch, generator) for net in nets]
            ),
            predict=lambda _: probabilities(nets, seen, valid.offsets[:-1], valid.lengths),
            context=context,
            layout=self.Layer.layout(self.params.precision) if device.type == "cpu" else packed,
        )
        identity = self._identity(train, valid, context) if context.checkpoints else ""
        self.curve = trainer.run(table, valid.y, valid.scored, identity).curve
        self.nets = [net.cpu() for net in nets]

    def _inputs(self, sequences: Sequences) -> Tensor:
        parts = [np.asarray(sequences.x[:, self.columns], dtype=np.float32)]
        if self.params.history:
            parts.append(np.nan_to_num(sequences.history))
        return torch.from_numpy(np.concatenate(parts, axis=1))

    @property
    def net(self) -> RecurrentNet | None:
        """The first member."""
        return self.nets[0] if self.nets else None

    def _build(self, inputs: int) -> list[RecurrentNet]:
        with torch.random.fork_rng(devices=[]):
            return [
                RecurrentNet(self.Layer, inputs, self.params) for _ in range(self.params.members)
            ]

    def _identity(self, train: Sequences, valid: Sequences, context: Context) -> str:
        content = hashlib.sha256()
        for sequences in (train, valid):
            for array in (
                sequences.x,
                sequences.y,
                sequences.scored,
                sequences.history,
                sequences.offsets,
            ):
                content.update(np.ascontiguousarray(array).data)
        parts = [
            type(self).__name__,
            self.version,
            self.params.model_dump(mode="json"),
            context.seed,
            context.device,
        ]
        return digest([*parts, self.names, content.hexdigest()])

    def predict_proba(self, sequences: Sequences) -> Floats:
        """Probabilities in float32 on one thread of the CPU, whatever the network was trained on."""
        check_inputs(self.names, sequences, type(self).__name__)
        if not self.nets:
            return np.full(sequences.rows, self.rate)
        with torch_threads(1):
            return probabilities(
                self.nets, self._inputs(sequences), sequences.offsets[:-1], sequences.lengths
            )

    def save(self, folder: Path) -> None:
        """``model.json``, and the weights as ``weights.pt``."""
        parts = {
            "params": self.params.model_dump(mode="json"),
            "names": self.names,
            "columns": self.columns,
        }
        write_json(folder / "model.json", {**parts, "rate": self.rate, "curve": self.curve})
        if self.nets:
            torch.save(nn.ModuleList(self.nets).state_dict(), folder / "weights.pt")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The model of :meth:`save`, on the CPU."""
        saved = read_json(folder / "model.json")
        model = cls(cls.Params(**saved["params"]))
        model.nets = []
        model.names, model.columns, model.rate = saved["names"], saved["columns"], saved["rate"]
        model.curve = [tuple(row) for row in saved["curve"]]
        if (folder / "weights.pt").is_file():
            state = torch.load(folder / "weights.pt", weights_only=True)
            lags = (
                sum(name.startswith("history:") for name in model.names)
                if model.params.history
                else 0
            )
            model.nets = model._build(len(model.columns) + lags)
            nn.ModuleList(model.nets).load_state_dict(state)
        return model

    def tables(self) -> dict[str, pl.DataFrame]:
        """``training_curve``: losses and validation score of each epoch."""
        return curve_table(self.curve)
