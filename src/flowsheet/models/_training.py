"""The training loop of networks that predict at every step of a stay."""

from __future__ import annotations

import contextlib
import ctypes
import math
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import polars as pl
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from flowsheet.config import FrozenModel
from flowsheet.models._batching import Batch, Layout, Table, batches, gather, packed
from flowsheet.models.base import Context, Pruned
from flowsheet.numerics import log_loss
from flowsheet.typing import Bools, Floats, Labels

Curve = list[tuple[int, float, float, float]]
"""(epoch, mean training loss, validation score, validation log loss)."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""As in glibc's malloc.h."""


class TrainingParams(FrozenModel):
    """How a network is trained."""

    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    """AdamW's step at its largest; it rises over the first epoch and falls to nothing along a cosine."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    """AdamW's decoupled weight decay."""
    epochs: Annotated[int, Field(ge=1)] = 12
    """Passes over the training stays, at most."""
    patience: Annotated[int, Field(ge=1)] = 4
    """Epochs without a lower validation log loss before training stops; the weights of the lowest are kept."""
    batch: Annotated[int, Field(ge=1)] = 64
    """Stays a batch; fewer where an epoch would have fewer than 32 batches, but not fewer than 8."""
    clip: Annotated[float, Field(gt=0)] = 1.0
    """Largest norm of a gradient."""
    averaging: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Weights are averaged over batches with this decay (less at first), and the average predicts; 0 takes the last."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the matrix products while training; prediction is always float32."""


@contextlib.contextmanager
def kept_memory() -> Iterator[None]:
    """Let glibc's allocator keep what is freed until the end: the next batch needs it, and fresh pages cost time."""
    libc: Any = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not hasattr(libc, "mallopt"):
        yield
        return
    for setting in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
        libc.mallopt(setting, 1 << 30)
    try:
        yield
    finally:
        libc.malloc_trim(0)


@dataclass
class Progress:
    """Where a fit stands; with the tensors beside it, all that a checkpoint holds."""

    epoch: int = 0
    best_epoch: int = 0
    best: float = math.inf
    """The lowest validation log loss."""
    curve: Curve = field(default_factory=list)


class Trainer:
    """Fits a network; calling :meth:`run` again after a kill gives what an undisturbed run would
    have given.

    The epoch to keep is chosen by the log loss on the validation rows, whatever metric is
    monitored: metrics that rank the few positives of a validation split leap from epoch to epoch,
    and the highest leap is often an early one. ``logits(batch, generator)`` gives the network's
    output for the batch's R rows, dropout drawn from the generator; ``predict(net)`` the
    probabilities of all validation rows, shape (N,). A ``ModuleList`` of M networks learns side by
    side, each as it would alone; the output is then of shape (M, R).
    """

    def __init__(
        self,
        net: nn.Module,
        params: TrainingParams,
        logits: Callable[[Batch, torch.Generator], Tensor],
        predict: Callable[[nn.Module], Floats],
        context: Context,
        *,
        layout: Layout = packed,
    ) -> None:
        self.net, self.params, self.context = net, params, context
        self.members = list(net) if isinstance(net, nn.ModuleList) else [net]
        self.logits, self.predict, self.layout = logits, predict, layout
        self.device = next(net.parameters()).device
        self.generator = torch.Generator().manual_seed(context.seed)
        self.optimiser = torch.optim.AdamW(
            net.parameters(), params.learning_rate, weight_decay=params.weight_decay, fused=True
        )
        self.weights = [p.detach() for p in net.parameters()]
        self.average = [weight.clone() for weight in self.weights]
        self.kept = [p.clone() for p in self.average]
        self.progress = Progress()

    @kept_memory()
    def run(self, table: Table, y: Labels, scored: Bools, identity: str) -> Progress:
        """Train on the table; the network ends with its best weights.

        ``y`` and ``scored`` are those of the validation rows, shape (N,); with none scored all
        epochs are run.
        """
        path = self._checkpoint(identity)
        if path is not None and path.is_file():
            self._restore(torch.load(path, map_location="cpu", weights_only=True))
        while self.progress.epoch < self.params.epochs and not self._stale():
            loss = self._epoch(table)
            try:
                self._judge(loss, y, scored)
            except Pruned:
                _remove(path)
                raise
            if path is not None:
                self._save(path)
        self._put(self.kept)
        _remove(path)
        return self.progress

    def _stale(self) -> bool:
        return self.progress.epoch - self.progress.best_epoch >= self.params.patience

    def _epoch(self, table: Table) -> float:
        stays = int(np.count_nonzero(table.lengths))
        size = min(self.params.batch, max(8, stays // 32))
        number = -(-stays // size)
        expected = float(table.weight.sum()) / number
        total = torch.zeros((), device=self.device)
        for i, chosen in enumerate(batches(table.lengths, size, self.generator)):
            self._set_rate(self.progress.epoch + i / number)
            batch = gather(table, chosen, self.layout)
            total += self.step(batch, expected)
            self._average(self.progress.epoch * number + i)
        return float(total) / number

    def step(self, batch: Batch, expected: float) -> Tensor:
        """One batch, and its share of the epoch's mean loss; ``expected`` is the average number of
        its scored rows.

        A batch counts by the square root of its rows, as its mean is known: were it by its rows,
        the few batches of the longest stays would lead; were all alike, those of the shortest.
        """
        self.optimiser.zero_grad()
        low = self.params.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=low):
            logits = self.logits(batch, self.generator)
        targets = batch.y.expand_as(logits)
        total = cross_entropy(logits.float(), targets, batch.weight, reduction="sum")
        rows = batch.weight.sum().clamp(min=1.0)
        (total / (rows * expected).sqrt()).backward()  # type: ignore[no-untyped-call]
        for member in self.members:
            nn.utils.clip_grad_norm_(member.parameters(), self.params.clip)
        self.optimiser.step()
        return total.detach() / expected / len(self.members)

    def _average(self, step: int) -> None:
        decay = min(self.params.averaging, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.average, self.weights, 1 - decay)

    def _set_rate(self, epoch: float) -> None:
        rise = min(1.0, epoch + 0.02)
        fall = 0.5 * (1 + math.cos(math.pi * epoch / self.params.epochs))
        for group in self.optimiser.param_groups:
            group["lr"] = self.params.learning_rate * rise * fall

    def _judge(self, loss: float, y: Labels, scored: Bools) -> None:
        progress, context = self.progress, self.context
        progress.epoch += 1
        if not scored.any():
            self.kept, progress.best_epoch = [p.clone() for p in self.average], progress.epoch
            context.progress(f"epoch {progress.epoch}: training loss {loss:.5f}")
            return
        score, loss_there = self._validate(y, scored)
        progress.curve.append((progress.epoch, loss, score, loss_there))
        if loss_there < progress.best:
            progress.best, progress.best_epoch = loss_there, progress.epoch
            self.kept = [p.clone() for p in self.average]
        context.progress(
            f"epoch {progress.epoch}: training loss {loss:.5f}, validation score {score:.5f}"
        )
        context.report_score(progress.epoch, score)

    def _validate(self, y: Labels, scored: Bools) -> tuple[float, float]:
        """Score (minus log loss where it cannot be computed) and log loss of the averaged weights."""
        last = [weight.clone() for weight in self.weights]
        self._put(self.average)
        p = self.predict(self.net)[scored]
        self._put(last)
        score = self.context.score(y[scored], p) if self.context.score else math.nan
        loss = log_loss(y[scored], p)
        return float(score) if math.isfinite(score) else -loss, loss

    def _put(self, weights: list[Tensor]) -> None:
        for ours, given in zip(self.weights, weights, strict=True):
            ours.copy_(given)

    def _checkpoint(self, identity: str) -> Path | None:
        folder = self.context.checkpoints
        if folder is None:
            return None
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"training-{identity[:16]}.pt"
        for other in folder.glob("training-*.pt*"):
            if other != path:
                other.unlink(missing_ok=True)
        return path

    def _save(self, path: Path) -> None:
        state = {
            "weights": self.weights,
            "average": self.average,
            "kept": self.kept,
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
            "progress": vars(self.progress),
        }
        temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}")
        torch.save(state, temporary)
        temporary.replace(path)

    def _restore(self, state: dict[str, Any]) -> None:
        self._put(state["weights"])
        self.average = [p.to(self.device) for p in state["average"]]
        self.kept = [p.to(self.device) for p in state["kept"]]
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.set_state(state["generator"])
        self.progress = Progress(**state["progress"])
        for epoch, _, score, _ in self.progress.curve:
            self.context.report_score(epoch, score)


def _remove(path: Path | None) -> None:
    if path is not None:
        path.unlink(missing_ok=True)


def curve_table(curve: Curve) -> dict[str, pl.DataFrame]:
    """``training_curve``: losses and validation score of each epoch; nothing where no epoch was judged."""
    names = ("training_loss", "validation_score", "validation_log_loss")
    schema = {"epoch": pl.Int64(), **dict.fromkeys(names, pl.Float64())}
    return {"training_curve": pl.DataFrame(curve, schema=schema, orient="row")} if curve else {}


@contextlib.contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Compute with this many threads, then with as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
