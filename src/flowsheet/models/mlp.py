"""A feed-forward network on the current row."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import polars as pl
import torch
from pydantic import Field
from torch import Tensor, nn

from flowsheet.config import Choice, FloatRange, IntRange, Space
from flowsheet.models._batching import Batch
from flowsheet.models._gpu_memory import explained_gpu_memory
from flowsheet.models._gradients import integrate_gradients
from flowsheet.models._row_matrix import RowMatrix, iterate_chunks
from flowsheet.models._row_pools import draw_blocks
from flowsheet.models._rows import InputParams, RowContributions, RowModel, Rows, need_reference
from flowsheet.models._training import (
    Curve,
    Trainer,
    TrainingParams,
    curve_table,
    identify_fit,
    torch_threads,
)
from flowsheet.models.base import MODELS, Capabilities, Context, ModelFamily
from flowsheet.typing import Floats, Floats32, Ints

PREDICT_ROWS = 4096
"""Prediction works on blocks of exactly this many rows, so that a row's probability does not depend
on the other rows."""


class FeedForward(nn.Module):
    """Hidden layers (linear, layer norm, ReLU), then one linear output."""

    def __init__(self, inputs: int, hidden: int, layers: int) -> None:
        super().__init__()
        sizes = [inputs] + [hidden] * layers
        self.hidden = nn.ModuleList(nn.Linear(size, hidden) for size in sizes[:-1])
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(layers))
        self.output = nn.Linear(hidden, 1)

    def forward(self, x: Tensor, masks: list[Tensor]) -> Tensor:
        """Log odds (...) of inputs (..., F).

        ``masks`` are the dropout factors of the inputs and of each hidden layer; empty: no dropout.
        """
        x = x * masks[0] if masks else x
        for i, (linear, norm) in enumerate(zip(self.hidden, self.norms, strict=True)):
            x = torch.relu(norm(linear(x).float()))
            x = x * masks[i + 1] if masks else x
        out: Tensor = self.output(x)
        return out.squeeze(-1)


@MODELS.register("mlp")
class MLP(RowModel):
    """Fully connected layers with dropout and early stopping.

    It is given one row at a time, in random order, and knows nothing of earlier rows.
    """

    title = "MLP"

    class Params(InputParams, TrainingParams):
        """The network, and how it is trained."""

        batch_size: Annotated[int, Field(ge=1)] = 64
        """Blocks of 8 rows a batch."""
        hidden: Annotated[int, Field(ge=1)] = 128
        """Units a layer."""
        layers: Annotated[int, Field(ge=1)] = 2
        """Hidden layers."""
        input_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
        """Share of inputs that are dropped in training."""
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3
        """Share of hidden units that are dropped in training."""
        history: bool = False
        """Take the known past responses as inputs (unknown ones as 0)."""

    version = 6
    saved_version = 3
    capabilities = Capabilities(
        family=ModelFamily.non_temporal,
        input_description="the current row",
        gpu=True,
        early_stopping=True,
    )
    space: ClassVar[Space] = {
        "hidden": Choice(of=(64, 128, 256)),
        "layers": IntRange(low=1, high=4),
        "learning_rate": FloatRange(low=5e-4, high=1e-2, log=True),
        "dropout": FloatRange(low=0.0, high=0.5),
    }

    net: FeedForward
    curve: Curve

    def fit_rows(self, train: Rows, valid: Rows, context: Context) -> None:
        """Minimise cross entropy; the weights with the lowest validation log loss are used."""
        params = self.params
        asked = (
            f"batches of {params.batch_size} blocks of 8 rows, in a network of {params.layers} x "
            f"{params.hidden} units"
        )
        with torch_threads(context.threads), explained_gpu_memory(asked):
            generator = torch.Generator().manual_seed(context.seed)
            blocks = draw_blocks(train, generator, torch.device(context.device))
            self.net = self._build(train.x.width)
            _initialise(self.net, self.rate, generator)
            self.net.to(context.device)
            trainer = Trainer(
                self.net,
                self.params,
                compute_logits=self._logits,
                predict=lambda _: self._predict_chunks(valid.x),
                context=context,
            )
            parts = (train.x.sequences, valid.x.sequences)
            identity = identify_fit(self, self.terms, parts, context)
            scored = np.ones(len(valid.y), dtype=bool)
            self.curve = trainer.run(blocks, valid.y, scored, identity).curve
            self.net.cpu()

    def _logits(self, batch: Batch, generator: torch.Generator) -> Tensor:
        return self.net(batch.x, self._masks(batch.x, generator))  # type: ignore[no-any-return]

    def _masks(self, x: Tensor, generator: torch.Generator) -> list[Tensor]:
        params = self.params
        shares = [params.input_dropout] + [params.dropout] * params.layers
        sizes = [x.shape[-1]] + [params.hidden] * params.layers
        masks: list[Tensor] = []
        for share, size in zip(shares, sizes, strict=True):
            draw = torch.rand(*x.shape[:-1], size, generator=generator)
            masks.append(((draw >= share) / (1 - share)).to(x.device, torch.float32))
        return masks

    def _build(self, inputs: int) -> FeedForward:
        with torch.random.fork_rng(devices=[]):
            return FeedForward(inputs, self.params.hidden, self.params.layers)

    def _predict_chunks(self, x: RowMatrix) -> Floats:
        """Probabilities of many rows, on the device of the network."""
        device = self.net.output.weight.device
        parts = [
            _predict(self.net, torch.from_numpy(part).to(device)) for _, part in iterate_chunks(x)
        ]
        return np.concatenate([np.empty(0), *parts])

    def predict_rows(self, x: Floats32) -> Floats:
        """Probabilities in float32 on one thread of the CPU."""
        with torch_threads(1):
            return _predict(self.net, torch.from_numpy(x.copy()))

    def explain_rows(self, x: Floats32) -> RowContributions:
        """Integrated gradients from the reference row."""
        reference = need_reference(self.reference, "mlp").astype(np.float32)

        def logits(rows: Tensor, predictions: Ints) -> Tensor:
            return self.net(rows, []).squeeze(1)  # type: ignore[no-any-return]

        with torch_threads(1):
            integrals = integrate_gradients(
                logits, torch.from_numpy(x.copy())[:, None], torch.from_numpy(reference)
            )
        baseline, log_odds, values, _ = (part.numpy().astype(np.float64) for part in integrals)
        return RowContributions(baseline, log_odds, values[:, 0])

    def write(self, folder: Path) -> dict[str, Any]:
        """The weights as ``weights.pt``, the training curve as JSON."""
        torch.save(self.net.state_dict(), folder / "weights.pt")
        return {"curve": self.curve}

    def read(self, folder: Path, state: dict[str, Any]) -> None:
        """Restore what :meth:`write` returned, on the CPU."""
        self.net = self._build(len(self.terms))
        self.net.load_state_dict(
            torch.load(folder / "weights.pt", weights_only=True, map_location="cpu")
        )
        self.curve = [tuple(row) for row in state["curve"]]

    def tables(self) -> dict[str, pl.DataFrame]:
        """``training_curve``: losses and validation score of each epoch."""
        return curve_table(self.curve) if self.fitted else {}


def _initialise(net: FeedForward, base_rate: float, generator: torch.Generator) -> None:
    """He et al. (2015) for the hidden layers; the output starts at the base rate."""
    with torch.no_grad():
        for linear in net.hidden:
            if isinstance(linear, nn.Linear):
                nn.init.kaiming_normal_(linear.weight, nonlinearity="relu", generator=generator)
                linear.bias.zero_()
        net.output.weight.zero_()
        net.output.bias.fill_(float(np.log(base_rate / (1 - base_rate))))


def _predict(net: FeedForward, x: Tensor) -> Floats:
    out = torch.empty(len(x))
    with torch.no_grad():
        for start in range(0, len(x), PREDICT_ROWS):
            rows = x[start : start + PREDICT_ROWS]
            padded = nn.functional.pad(rows, (0, 0, 0, PREDICT_ROWS - len(rows)))
            out[start : start + PREDICT_ROWS] = net(padded, []).sigmoid()[: len(rows)]
    return out.numpy().astype(np.float64)
