"""The training loop of networks that predict at every step of a stay."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import io
import math
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import polars as pl
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from flowsheet.config import FrozenModel
from flowsheet.models._batching import Batch, Layout, TrainingRows, packed
from flowsheet.models.base import Context, Model, Pruned
from flowsheet.numerics import log_loss
from flowsheet.progress import ProgressLine
from flowsheet.state.hashing import digest
from flowsheet.typing import Bools, Floats, Labels
from flowsheet.windows.sequences import Sequences
from flowsheet.windows.shards import ShardedInputs

Curve = list[tuple[int, float, float, float]]
"""(epoch, mean training loss, validation score, validation log loss)."""
_SHA256_BYTES = 32
"""A checkpoint begins with the sha256 of the rest."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""As in glibc's malloc.h."""
LARGEST_MMAP_THRESHOLD = 1 << 25
"""What glibc's own threshold, and twice of which its other one, grow to at most."""


class TrainingParams(FrozenModel):
    """How a network is trained."""

    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    """AdamW's largest step, with a warm-up over the first epoch and a cosine decay to 0."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    """AdamW's decoupled weight decay."""
    epochs: Annotated[int, Field(ge=1)] = 12
    """Passes over the training stays, at most."""
    patience: Annotated[int, Field(ge=1)] = 4
    """Epochs without a lower validation log loss before training stops; the best epoch is used."""
    batch_size: Annotated[int, Field(ge=1)] = 64
    """Stays a batch; fewer (but at least 8) where an epoch would have fewer than 32 batches."""
    max_gradient_norm: Annotated[float, Field(gt=0)] = 1.0
    """Gradients are clipped to this norm."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Decay of the moving average of the weights, which is used for prediction; lower in the first
    batches. 0: no average."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the matrix products in training, float32 also on a processor that has no kernels
    for bfloat16 (on x86: without AVX-512); prediction is always float32."""


def usable_precision(precision: str, device: torch.device) -> str:
    """float32 on a processor without kernels for bfloat16, where torch's LSTM raises an error."""
    if device.type != "cpu" or precision == "float32":
        return precision
    has_mkldnn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    is_supported = has_mkldnn and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return precision if is_supported else "float32"


@contextlib.contextmanager
def tuned_malloc() -> Iterator[None]:
    """Make glibc keep freed memory during the block: the next batch reuses it."""
    libc: Any = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not hasattr(libc, "mallopt"):
        yield
        return
    for setting in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
        libc.mallopt(setting, 1 << 30)
    try:
        yield
    finally:
        libc.mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
        libc.mallopt(M_TRIM_THRESHOLD, 2 * LARGEST_MMAP_THRESHOLD)
        libc.malloc_trim(0)


@dataclass
class Progress:
    """The progress of a fit; a checkpoint holds this and the trainer's tensors."""

    epoch: int = 0
    best_epoch: int = 0
    best_loss: float = math.inf
    """The lowest validation log loss."""
    curve: Curve = field(default_factory=list)


class Trainer:
    """Fits a network.

    After a kill, :meth:`run` resumes and gives the same result as an uninterrupted run.

    The best epoch is the one with the lowest log loss on the validation rows, whatever metric is
    monitored: metrics that rank the few positives of a validation split vary widely from epoch to
    epoch, and the highest value is often an early one.

    A ``ModuleList`` of M networks is trained in parallel, each as it would be alone.
    """

    def __init__(
        self,
        net: nn.Module,
        params: TrainingParams,
        compute_logits: Callable[[Batch, torch.Generator], Tensor],
        predict: Callable[[nn.Module], Floats],
        context: Context,
        *,
        layout: Layout = packed,
    ) -> None:
        """Prepare the optimiser and the average of the weights.

        Args:
            net: The network, or a ``ModuleList`` of M networks.
            params: How to train.
            compute_logits: Logits (R,), or (M, R), of a batch's R rows, with dropout drawn from the
                generator.
            predict: Probabilities (N,) of all validation rows, in a group those of all its members.
            context: Seed, monitored score, progress and checkpoints of the fit.
            layout: The layout of a batch's rows.
        """
        self.net, self.params, self.context = net, params, context
        self.networks = list(net) if isinstance(net, nn.ModuleList) else [net]
        self.compute_logits, self.predict, self.layout = compute_logits, predict, layout
        self.device = next(net.parameters()).device
        self.generator = torch.Generator().manual_seed(context.seed)
        self.optimiser = torch.optim.AdamW(
            net.parameters(), params.learning_rate, weight_decay=params.weight_decay, fused=True
        )
        self.weights = [p.detach() for p in net.parameters()]
        self.average = [weight.clone() for weight in self.weights]
        self.best_weights = [weight.clone() for weight in self.average]
        self.progress = Progress()

    @tuned_malloc()
    def run(self, rows: TrainingRows, y: Labels, scored: Bools, identity: str) -> Progress:
        """Train; the network ends with the weights of the best epoch.

        Args:
            rows: The training rows.
            y: Labels of the validation rows (N,).
            scored: Which of the validation rows count (N,); with none all epochs are run.
            identity: Digest of all that determines the fit; names the checkpoint.
        """
        checkpoint = self._checkpoint_path(identity)
        self._resume(checkpoint)
        while self.progress.epoch < self.params.epochs and not self._is_out_of_patience():
            loss = self._train_epoch(rows)
            try:
                self._finish_epoch(loss, y, scored)
            except Pruned:
                _remove(checkpoint)
                raise
            if checkpoint is not None:
                self._save(checkpoint)
        self._load_weights(self.best_weights)
        _remove(checkpoint)
        return self.progress

    def _is_out_of_patience(self) -> bool:
        return self.progress.epoch - self.progress.best_epoch >= self.params.patience

    def _train_epoch(self, rows: TrainingRows) -> float:
        """The mean training loss."""
        stays = int(np.count_nonzero(rows.lengths))
        size = min(self.params.batch_size, max(8, stays // 32))
        drawn = rows.draw(size, self.generator)
        batches = len(drawn)
        mean_scored_rows = float(rows.weight.sum()) / batches
        total = torch.zeros((), device=self.device)
        for i, batch in enumerate(rows.gather(drawn, self.layout)):
            self._set_learning_rate(self.progress.epoch + i / batches)
            total += self.step(batch, mean_scored_rows)
            self._update_average(self.progress.epoch * batches + i)
        return float(total) / batches

    def step(self, batch: Batch, mean_scored_rows: float) -> Tensor:
        """Learn from one batch; its share of the epoch's mean loss.

        A batch is weighted by the square root of its scored rows, as the precision of its mean
        grows with it: weighted by the rows, the few batches of the longest stays would dominate;
        weighted equally, those of the shortest.

        Args:
            batch: The batch.
            mean_scored_rows: Scored rows of an average batch of the epoch.
        """
        self.optimiser.zero_grad()
        is_low_precision = usable_precision(self.params.precision, self.device) == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=is_low_precision):
            logits = self.compute_logits(batch, self.generator)
        targets = batch.y.expand_as(logits)
        total = binary_cross_entropy_with_logits(
            logits.float(), targets, batch.weight, reduction="sum"
        )
        scored_rows = batch.weight.sum()
        self._sum_over_group(scored_rows)
        scale = (scored_rows.clamp(min=1.0) * mean_scored_rows).sqrt()
        (total / scale).backward()  # type: ignore[no-untyped-call]
        total = total.detach()
        gradients = [p.grad for p in self.net.parameters() if p.grad is not None]
        self._sum_over_group(total, *gradients)
        for network in self.networks:
            nn.utils.clip_grad_norm_(network.parameters(), self.params.max_gradient_norm)
        self.optimiser.step()
        return total / mean_scored_rows / len(self.networks)

    def _sum_over_group(self, *tensors: Tensor) -> None:
        """Add what the other processes of a group have computed from their part of the batch."""
        if self.context.group:
            self.context.group.sum(tensors)

    def _update_average(self, step: int) -> None:
        decay = min(self.params.ema_decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.average, self.weights, 1 - decay)

    def _set_learning_rate(self, epoch: float) -> None:
        warmup = min(1.0, epoch + 0.02)
        cosine = 0.5 * (1 + math.cos(math.pi * epoch / self.params.epochs))
        for group in self.optimiser.param_groups:
            group["lr"] = self.params.learning_rate * warmup * cosine

    def _finish_epoch(self, loss: float, y: Labels, scored: Bools) -> None:
        """Validate, remember the weights if they are the best so far, and report."""
        progress, context = self.progress, self.context
        progress.epoch += 1
        if not scored.any():
            self._keep_weights()
            text = f"epoch {progress.epoch}: training loss {loss:.5f}"
            context.progress(ProgressLine(text, "epoch", progress.epoch, self.params.epochs))
            return
        score, validation_loss = self._validate(y, scored)
        progress.curve.append((progress.epoch, loss, score, validation_loss))
        if validation_loss < progress.best_loss:
            progress.best_loss = validation_loss
            self._keep_weights()
        text = f"epoch {progress.epoch}: training loss {loss:.5f}, validation score {score:.5f}"
        context.progress(ProgressLine(text, "epoch", progress.epoch, self.params.epochs, score))
        context.report_score(progress.epoch, score)

    def _keep_weights(self) -> None:
        self.best_weights = [weight.clone() for weight in self.average]
        self.progress.best_epoch = self.progress.epoch

    def _validate(self, y: Labels, scored: Bools) -> tuple[float, float]:
        """Score and log loss of the averaged weights.

        The score is minus log loss where the metric cannot be computed.
        """
        current = [weight.clone() for weight in self.weights]
        self._load_weights(self.average)
        p = self.predict(self.net)[scored]
        self._load_weights(current)
        score = self.context.score(y[scored], p) if self.context.score else math.nan
        loss = log_loss(y[scored], p)
        return float(score) if math.isfinite(score) else -loss, loss

    def _load_weights(self, weights: list[Tensor]) -> None:
        for weight, value in zip(self.weights, weights, strict=True):
            weight.copy_(value)

    def _checkpoint_path(self, identity: str) -> Path | None:
        """The checkpoint of this fit; those of other fits are removed from the folder."""
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
            "best_weights": self.best_weights,
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
            "progress": vars(self.progress),
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        content = buffer.getvalue()
        temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}")
        temporary.write_bytes(hashlib.sha256(content).digest() + content)
        temporary.replace(path)

    def _resume(self, path: Path | None) -> None:
        """Go on from a checkpoint; without one that is as it was written, begin anew."""
        data = path.read_bytes() if path is not None and path.is_file() else b""
        if self.context.group:
            data = self.context.group.broadcast(data)
        if not data:
            return
        sha256, content = data[:_SHA256_BYTES], data[_SHA256_BYTES:]
        if hashlib.sha256(content).digest() != sha256:
            self.context.progress("warning: a checkpoint was changed; the fit begins anew")
            return
        self._restore(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))

    def _restore(self, state: dict[str, Any]) -> None:
        self._load_weights(state["weights"])
        self.average = [weight.to(self.device) for weight in state["average"]]
        self.best_weights = [weight.to(self.device) for weight in state["best_weights"]]
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.set_state(state["generator"])
        self.progress = Progress(**state["progress"])
        for epoch, _, score, _ in self.progress.curve:
            self.context.report_score(epoch, score)


def identify_fit(
    model: Model, names: list[str], parts: Iterable[Sequences], context: Context
) -> str:
    """Digest of all that determines a fit; empty where there are no checkpoints.

    Args:
        model: The model, whose parameters are fixed.
        names: Its inputs.
        parts: Training and validation stays.
        context: The circumstances of the fit.
    """
    if context.checkpoints is None:
        return ""
    content = hashlib.sha256()
    for part in parts:
        for array in (part.x, part.y, part.scored, part.history, part.offsets):
            if isinstance(array, ShardedInputs):
                content.update(array.digest().encode())
            else:
                content.update(np.ascontiguousarray(array).data)
    settings = [
        type(model).__name__,
        model.version,
        model.params.model_dump(mode="json"),
        context.seed,
        context.device,
        *([context.group.size] if context.group else []),
    ]
    return digest([*settings, names, content.hexdigest()])


def _remove(path: Path | None) -> None:
    if path is not None:
        path.unlink(missing_ok=True)


def curve_table(curve: Curve) -> dict[str, pl.DataFrame]:
    """``training_curve``: losses and validation score of each epoch, if there was validation."""
    names = ("training_loss", "validation_score", "validation_log_loss")
    schema = {"epoch": pl.Int64(), **dict.fromkeys(names, pl.Float64())}
    return {"training_curve": pl.DataFrame(curve, schema=schema, orient="row")} if curve else {}


@contextlib.contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Compute with this many threads during the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
