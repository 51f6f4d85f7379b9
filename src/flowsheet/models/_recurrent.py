"""The model around a recurrent network: inputs, training, prediction and files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Self

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from flowsheet.cohort.time_grid import row_offsets
from flowsheet.config import Choice, FloatRange, Space
from flowsheet.models._batching import (
    Batch,
    StayInputs,
    StayRows,
    last_scored_lengths,
    packed,
)
from flowsheet.models._gpu_memory import explained_gpu_memory
from flowsheet.models._gradients import Integrals, integrate_gradients
from flowsheet.models._networks import (
    RecurrentLayer,
    RecurrentNet,
    RecurrentParams,
    initialise,
    predict_probabilities,
)
from flowsheet.models._row_matrix import RowMatrix, select_stays_of
from flowsheet.models._rows import (
    base_rate,
    check_inputs,
    choose_inputs,
    explain_base_rate,
    input_names,
    need_reference,
    reference_row,
)
from flowsheet.models._training import (
    Curve,
    Trainer,
    curve_table,
    identify_fit,
    torch_threads,
    usable_precision,
)
from flowsheet.models.base import Capabilities, Context, Contributions, Model, ModelFamily
from flowsheet.state.json_files import read_json, write_json
from flowsheet.typing import Floats, Floats32, Ints
from flowsheet.windows.sequences import Sequences
from flowsheet.windows.shards import ShardedInputs

EXPLAINED_TOGETHER = 32
"""Predictions whose gradients are integrated together, to the longest past among them."""


@dataclass(frozen=True)
class _ShardReader:
    """Reads the inputs of a network from the shards of the stays."""

    sequences: Sequences
    network_inputs: Callable[[Sequences], Tensor]
    device: torch.device
    precision: torch.dtype

    def read(self, stays: Ints) -> tuple[Tensor, Ints]:
        """The inputs of these stays on the device, and the first row of each of them there."""
        own = self.sequences.take(stays).in_memory()
        x = self.network_inputs(own).to(self.precision)
        if self.device.type == "cuda":
            x = x.pin_memory().to(self.device, non_blocking=True)
        return x, own.offsets[:-1]


class RecurrentModel(Model):
    """A network that reads a stay step by step and predicts at every step.

    With training rows of one class only, every row gets the base rate.
    """

    Params = RecurrentParams
    Layer: ClassVar[type[RecurrentLayer]]
    size_rules = MappingProxyType({"ensemble_size": lambda size: size.networks})
    version = 7
    saved_version = 4
    capabilities = Capabilities(
        family=ModelFamily.recurrent,
        input_description="the whole known past",
        gpu=True,
        early_stopping=True,
        distributed=True,
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
    reference: Floats | None = None
    """The inputs of the row that explanations compare with (D,), see ``reference_row``."""
    nets: list[RecurrentNet]
    """The networks of the ensemble; none where all rows get the base rate."""
    curve: Curve

    def fit(self, train: Sequences, valid: Sequences, context: Context) -> None:
        """Train with early stopping on the scored validation rows."""
        y = train.y[train.scored]
        self.adapt(train)
        self.names, self.columns = input_names(train), choose_inputs(train, self.params)
        self.rate, self.nets, self.curve = base_rate(y), [], []
        if not 0 < y.sum() < len(y):
            return
        with torch_threads(context.threads), explained_gpu_memory(self._describe_size(train)):
            self._train(train, valid, context)

    def _describe_size(self, train: Sequences) -> str:
        """What a batch and the networks that learn from it take memory for."""
        params, networks = self.params, self.params.ensemble_size or 1
        return (
            f"batches of {params.batch_size} stays of up to {max(train.lengths):,} steps, in "
            f"{networks} networks of {params.layers} x {params.hidden} units"
        )

    def _train(self, train: Sequences, valid: Sequences, context: Context) -> None:
        device, group = torch.device(context.device), context.group
        part = group.part if group else slice(None)
        inputs = self._read_scored(_take_part(train, part))
        self.reference = reference_row(inputs, self._input_positions(train), train.features, group)
        nets, generator = self._build(inputs.width), torch.Generator().manual_seed(context.seed)
        for net in nets:
            initialise(net, self.rate, generator)
            net.to(device)
        precision = usable_precision(self.params.precision, device)
        rows = StayRows(
            x=self._read_inputs(train, device, getattr(torch, precision)),
            y=torch.from_numpy(train.y.astype(np.float32)).to(device),
            weight=torch.from_numpy(train.scored.astype(np.float32)).to(device),
            starts=train.offsets[:-1],
            lengths=last_scored_lengths(train.offsets, train.scored),
            part=part,
        )
        own_valid = _take_part(valid, part)
        valid_x = self._read_inputs(own_valid, device)

        def compute_logits(batch: Batch, generator: torch.Generator) -> Tensor:
            return torch.stack([net.train_logits(batch, generator) for net in nets])

        def predict(_: nn.Module) -> Floats:
            starts, lengths = own_valid.offsets[:-1], own_valid.lengths
            p = predict_probabilities(nets, valid_x, starts, lengths)
            if group is None:
                return p
            is_own = np.isin(valid.row_stay, np.arange(len(valid))[part])
            return group.gather_in_order(np.flatnonzero(is_own), p)

        trainer = Trainer(
            nn.ModuleList(nets),
            self.params,
            compute_logits,
            predict,
            context,
            layout=self.Layer.layout(precision) if device.type == "cpu" else packed,
        )
        identity = identify_fit(self, self.names, (train, valid), context)
        self.curve = trainer.run(rows, valid.y, valid.scored, identity).curve
        self.nets = [net.cpu() for net in nets]

    def _read_scored(self, sequences: Sequences) -> RowMatrix:
        """The inputs of the network in the scored rows."""

        def compute(stays: Sequences, rows: Ints) -> Floats32:
            return np.asarray(self.network_inputs(stays).numpy()[rows], np.float32)

        width = self.network_inputs(sequences.take(np.array([], np.int64))).shape[1]
        return RowMatrix(sequences, np.flatnonzero(sequences.scored), width, compute)

    def _read_inputs(
        self, sequences: Sequences, device: torch.device, precision: torch.dtype = torch.float32
    ) -> StayInputs:
        """The inputs of the network: a tensor, or read from the shards of the stays."""
        if isinstance(sequences.x, ShardedInputs):
            return _ShardReader(sequences, self.network_inputs, device, precision)
        return self.network_inputs(sequences).to(device, precision)

    def network_inputs(self, sequences: Sequences) -> Tensor:
        """The inputs (N, F) of the network, response history included."""
        x = np.asarray(sequences.select_features(self.columns).x, np.float32)
        if self.params.history:
            x = np.concatenate([x, np.nan_to_num(sequences.history)], axis=1)
        return torch.from_numpy(np.require(x, requirements=["C", "W"]))

    @property
    def net(self) -> RecurrentNet | None:
        """The first network of the ensemble."""
        return self.nets[0] if self.nets else None

    def _build(self, inputs: int) -> list[RecurrentNet]:
        with torch.random.fork_rng(devices=[]):
            return [
                RecurrentNet(self.Layer, inputs, self.params)
                for _ in range(self.params.ensemble_size or 1)
            ]

    def predict_proba(self, sequences: Sequences) -> Floats:
        """Probabilities in float32 on one thread of the CPU, wherever the network was trained."""
        check_inputs(self.names, sequences, type(self).__name__)
        if not self.nets:
            return np.full(sequences.rows, self.rate)
        x = self._read_inputs(sequences, torch.device("cpu"))
        with torch_threads(1):
            return predict_probabilities(self.nets, x, sequences.offsets[:-1], sequences.lengths)

    def explain(self, sequences: Sequences, rows: Ints) -> Contributions:
        """Integrated gradients over the whole past, from a stay of reference rows.

        The reference has as many rows as the past of the prediction; the networks of an ensemble
        are explained together, as the mean of their log odds.
        """
        check_inputs(self.names, sequences, type(self).__name__)
        if not self.nets:
            return explain_base_rate(self.rate, sequences, rows)
        own, own_rows = select_stays_of(sequences, rows)
        x, own_first_rows = self.network_inputs(own), own.offsets[own.row_stay[own_rows]]
        lengths = own_rows - own_first_rows + 1
        first_rows = rows - lengths + 1
        offsets = row_offsets(lengths)
        used_rows = np.repeat(first_rows - offsets[:-1], lengths) + np.arange(offsets[-1])
        baseline, log_odds = np.empty(len(rows)), np.empty(len(rows))
        values = np.zeros((len(used_rows), len(self.names)))
        columns = self._input_positions(sequences)
        by_length = np.argsort(lengths, kind="stable")
        with torch_threads(1):
            for first in range(0, len(rows), EXPLAINED_TOGETHER):
                chosen = by_length[first : first + EXPLAINED_TOGETHER]
                pasts = [x[own_first_rows[i] : own_rows[i] + 1] for i in chosen]
                explained = self._integrate(pasts)
                baseline[chosen], log_odds[chosen] = explained.baseline, explained.log_odds
                for i, of_row in zip(chosen, explained.values.numpy(), strict=True):
                    values[offsets[i] : offsets[i + 1], columns] = of_row[: lengths[i]]
        return Contributions(rows, baseline, log_odds, values, used_rows, offsets)

    def _integrate(self, pasts: list[Tensor]) -> Integrals:
        """The integrated gradients of predictions from their pasts, each (k, D)."""
        reference = need_reference(self.reference, type(self).__name__).astype(np.float32)
        lengths = torch.tensor([len(past) for past in pasts])
        x = torch.from_numpy(reference).repeat(len(pasts), int(lengths.max()), 1)
        for i, past in enumerate(pasts):
            x[i, : len(past)] = past

        def logits(inputs: Tensor, predictions: Ints) -> Tensor:
            steps, points = inputs.transpose(0, 1), torch.arange(len(inputs))
            by_net = [net(steps, net.initial_state(len(inputs)))[0] for net in self.nets]
            # What follows the prediction's own row has no influence on it.
            return torch.stack(by_net).mean(dim=0)[lengths[predictions] - 1, points]

        return integrate_gradients(logits, x, torch.from_numpy(reference))

    def _input_positions(self, sequences: Sequences) -> list[int]:
        """The position of each input of the network among the F features and P lags."""
        lags = range(len(sequences.features), len(self.names))
        return [*self.columns, *(lags if self.params.history else ())]

    def save(self, folder: Path) -> None:
        """``model.json``, and the weights as ``weights.pt``."""
        values = {
            "params": self.params.model_dump(mode="json"),
            "names": self.names,
            "columns": self.columns,
            "rate": self.rate,
            "reference": None if self.reference is None else self.reference.tolist(),
            "curve": self.curve,
        }
        write_json(folder / "model.json", values)
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
        if saved.get("reference") is not None:
            model.reference = np.array(saved["reference"])
        if (folder / "weights.pt").is_file():
            state = torch.load(folder / "weights.pt", weights_only=True)
            lags = sum(name.startswith("history:") for name in model.names)
            inputs = len(model.columns) + (lags if model.params.history else 0)
            model.nets = model._build(inputs)
            nn.ModuleList(model.nets).load_state_dict(state)
        return model

    def tables(self) -> dict[str, pl.DataFrame]:
        """``training_curve``: losses and validation score of each epoch."""
        return curve_table(self.curve)


def _take_part(sequences: Sequences, part: slice) -> Sequences:
    """The stays of one process of a group; all of them where there is none."""
    return sequences if part == slice(None) else sequences.take(np.arange(len(sequences))[part])
