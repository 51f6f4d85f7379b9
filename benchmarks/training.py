"""The cost of a training epoch of the recurrent models.

    python benchmarks/training.py WINDOWS [--stays 13000] [--inputs 80] [--share 0.1]
    python benchmarks/training.py WINDOWS --repeats 5

WINDOWS is a folder written by ``Sequences.save`` (unscaled). Prints one JSON line per figure, for
one thread. ``cpu_seconds`` are those of the process; ``gemm`` is the speed of the machine at that
moment (GFLOP/s in float32, for the shape of the recurrent product), with which to compare them.

1. The first form times an epoch of one layer of 128 units in batches of 64 stays, for several
   strategies of batching (the slow ones on a ``--share`` of their batches). ``step_share`` is the
   share of the time in forward, backward and optimiser; the rest gathers batches and averages
   weights. For comparison it times ``torch.nn.LSTM`` with a linear output and nothing else: on
   stays padded to the longest (the usual way), and on equally many rows without padding (a lower
   bound). All of them keep freed memory, like our training. On a GPU it also reports the share of
   cuDNN's own rate that training reaches.
2. ``--repeats`` alternates between the measurements, so that other load affects all of them alike,
   and reports ratios: padding to ours, with freed memory kept and returned (``default_malloc``,
   torch's default), and ours to the lower bound.

``benchmarks/training_accuracy.py`` measures whether the speed costs accuracy.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flowsheet.models._batching import (
    POOL_BATCHES,
    Batch,
    Layout,
    StayRows,
    draw_batches,
    gather,
)
from flowsheet.models._networks import RecurrentLayer, RecurrentNet, RecurrentParams
from flowsheet.models._recurrent import RecurrentModel
from flowsheet.models._training import Trainer, tuned_malloc
from flowsheet.models.base import MODELS, Context
from flowsheet.typing import Ints
from flowsheet.windows.scaling import Scaler
from flowsheet.windows.sequences import Sequences

BATCH_STAYS = 64
HIDDEN = 128
WARM_UP_BATCHES = 4
"""The first batches are not timed: torch prepares its kernels in them."""
MEAN_SCORED_ROWS = 1000.0
"""Any number: it scales the loss and does not change the time."""


@dataclass(frozen=True)
class Strategy:
    """How stays are drawn and laid out in batches."""

    name: str
    pool_batches: int = POOL_BATCHES
    layout: Layout | None = None
    """None: the layer's own."""
    precision: str = "float32"
    is_slow: bool = False

    def gather(self, kind: str, rows: StayRows, stays: Ints) -> Batch:
        """A batch for this kind of layer on the CPU."""
        return gather(rows, stays, self.layout or layer_of(kind).layout(self.precision))


def padded(lengths: Ints, stay: Ints, step: Ints, steps: int = 0) -> tuple[Ints, list[int]]:
    """A column for each stay, padded to the longest stay, or to more steps."""
    return step * len(lengths) + stay, [len(lengths)] * max(steps, int(lengths[0]))


RANDOM = Strategy("random batches, our layout", pool_batches=1)
PADDED = Strategy(
    "random batches, padded to the longest stay of the batch",
    pool_batches=1,
    layout=padded,
    is_slow=True,
)
OURS = (Strategy("ours"), Strategy("ours, bfloat16", precision="bfloat16"))


def split(folder: Path, seed: int) -> list[Sequences]:
    """64, 16 and 20% of the subjects for training, validation and test, scaled on the first."""
    sequences = Sequences.load(folder)
    subjects = np.random.default_rng(seed).permutation(np.unique(sequences.subject_id))
    cuts = (np.array([0.64, 0.8]) * len(subjects)).astype(int)
    parts = [sequences.select_subjects(part) for part in np.split(subjects, cuts)]
    scaler = Scaler.fit(parts[0])
    return [scaler.transform(part) for part in parts]


def gemm() -> float:
    """GFLOP/s of a product of the recurrent product's shape, on one thread."""
    a, b = torch.randn(64, 128), torch.randn(128, 512)
    start = time.process_time()
    for _ in range(500):
        torch.mm(a, b)
    return 500 * 2 * 64 * 128 * 512 / (time.process_time() - start) / 1e9


def layer_of(kind: str) -> type[RecurrentLayer]:
    cls = MODELS.get(kind)
    assert issubclass(cls, RecurrentModel)
    return cls.Layer


def default_embedding() -> int:
    return int(MODELS.get("lstm").Params().model_dump()["embedding"])


def make_trainer(kind: str, strategy: Strategy, rows: StayRows, embedding: int) -> Trainer:
    """A trainer of a new network of one layer, on the device of the rows."""
    params = MODELS.get(kind).Params(
        embedding=embedding, hidden=HIDDEN, layers=1, precision=strategy.precision
    )
    assert isinstance(params, RecurrentParams)
    net = RecurrentNet(layer_of(kind), rows.x.shape[1], params).to(rows.x.device)
    return Trainer(net, params, net.train_logits, lambda _: np.zeros(0), Context(seed=1))


def draw(rows: StayRows, strategy: Strategy) -> list[Ints]:
    generator = torch.Generator().manual_seed(1)
    return draw_batches(rows.lengths, BATCH_STAYS, generator, strategy.pool_batches)


def time_epoch(
    kind: str, strategy: Strategy, rows: StayRows, embedding: int, share: float
) -> dict[str, Any]:
    """Seconds of an epoch, extrapolated from a share of its batches.

    Args:
        kind: The recurrent model.
        strategy: How stays become batches.
        rows: All rows.
        embedding: Units of the embedding.
        share: Share of the batches that is timed.
    """
    trainer = make_trainer(kind, strategy, rows, embedding)
    rows = replace(rows, x=rows.x.to(getattr(torch, strategy.precision)))
    batches = draw(rows, strategy)
    for stays in batches[:WARM_UP_BATCHES]:
        trainer.step(strategy.gather(kind, rows, stays), MEAN_SCORED_ROWS)
    timed = batches[: max(WARM_UP_BATCHES, round(share * len(batches)))]
    in_steps, batch_rows = 0.0, 0
    wall_start, cpu_start = time.perf_counter(), time.process_time()
    for i, stays in enumerate(timed):
        batch = strategy.gather(kind, rows, stays)
        step_start = time.process_time()
        trainer.step(batch, MEAN_SCORED_ROWS)
        in_steps += time.process_time() - step_start
        trainer._update_average(i)
        batch_rows += len(batch.y)
    cpu = time.process_time() - cpu_start
    wall = time.perf_counter() - wall_start
    scale = len(batches) / len(timed)
    stay_rows = int(rows.lengths[np.concatenate(timed)].sum())
    return {
        "seconds": round(wall * scale, 2),
        "cpu_seconds": round(cpu * scale, 2),
        "step_share": round(in_steps / cpu, 3),
        "padding": round(batch_rows / stay_rows - 1, 3),
    }


@cache
def load_rows(folder: Path, stays: int, inputs: int) -> StayRows:
    """The first stays and inputs of the training part."""
    train = split(folder, 0)[0]
    train = train.take(np.arange(min(stays, len(train))))
    return StayRows(
        x=torch.from_numpy(np.ascontiguousarray(train.x[:, :inputs])),
        y=torch.from_numpy(train.y.astype(np.float32)),
        weight=torch.from_numpy(train.scored.astype(np.float32)),
        starts=train.offsets[:-1],
        lengths=train.lengths,
    )


@tuned_malloc()
def measure_speed(args: argparse.Namespace) -> None:
    """All strategies for the LSTM, ours for the others."""
    rows = load_rows(args.windows, args.stays, args.inputs)
    longest_stay = int(rows.lengths.max())
    padded_to_longest = Strategy(
        "padded to the longest stay of all", 1, partial(padded, steps=longest_stay), is_slow=True
    )
    inputs = rows.x.shape[1]
    for embedding in (default_embedding(), 0):
        for kind in ("lstm", "gru", "rnn"):
            is_lstm = kind == "lstm"
            strategies = (*OURS, RANDOM, PADDED, padded_to_longest) if is_lstm else OURS[:1]
            for strategy in strategies:
                share = args.share if strategy.is_slow else 1.0
                figures = time_epoch(kind, strategy, rows, embedding, share)
                show(
                    kind=kind,
                    strategy=strategy.name,
                    inputs=inputs,
                    embedding=embedding,
                    stays=len(rows.lengths),
                    **figures,
                )
    for layer_inputs in (inputs, default_embedding()):
        for name, steps in (("padded to the longest stay", longest_stay), ("no padding", 0)):
            for precision in ("float32", "bfloat16"):
                show(
                    kind="lstm",
                    strategy=f"torch's layer alone, {name}",
                    inputs=layer_inputs,
                    precision=precision,
                    **time_torch_layer(rows, layer_inputs, steps, precision, args.share),
                )
    show(figure="share of cuDNN's own rate", **measure_cudnn_share(rows))


def measure_ratios(args: argparse.Namespace) -> None:
    """The cost of padding relative to ours, and of ours to the lower bound: medians of repeats.

    Each measurement has its own process, whose first repeat is not counted. The lower bound has as
    many inputs as our recurrent layer, after the embedding.
    """
    measurements = [("padded", "float32"), ("default_malloc", "float32")]
    for strategy in OURS:
        measurements += [("ours", strategy.precision), ("bound", strategy.precision)]
    with ExitStack() as stack:
        pools = [
            stack.enter_context(start_process(tune_memory=name != "default_malloc"))
            for name, _ in measurements
        ]
        repeats = []
        for _ in range(1 + args.repeats):
            seconds = [
                pool.submit(measure, args, *measurement).result()
                for pool, measurement in zip(pools, measurements, strict=True)
            ]
            repeats.append(dict(zip(measurements, seconds, strict=True)))
    for strategy in OURS:
        precision = strategy.precision

        def of(name: str, precision: str) -> Any:
            return np.array([repeat[name, precision] for repeat in repeats[1:]])

        ours, bound = of("ours", precision), of("bound", precision)
        padded_seconds, default_malloc = of("padded", "float32"), of("default_malloc", "float32")
        figures = {
            "ours": ours,
            "bound": bound,
            "padded": padded_seconds,
            "padded / ours": padded_seconds / ours,
            "default_malloc": default_malloc,
            "default_malloc / ours": default_malloc / ours,
            "ours / bound": ours / bound,
        }
        for figure, values in figures.items():
            show(
                precision=precision,
                figure=figure,
                median=round(float(np.median(values)), 2),
                min=round(float(values.min()), 2),
                max=round(float(values.max()), 2),
            )


def start_process(*, tune_memory: bool) -> ProcessPoolExecutor:
    """A worker process that keeps the memory that it frees, or returns it."""
    initializer = keep_freed_memory if tune_memory else None
    return ProcessPoolExecutor(1, get_context("spawn"), initializer)


MEMORY = ExitStack()


def keep_freed_memory() -> None:
    """As in training, until the process ends."""
    MEMORY.enter_context(tuned_malloc())


def measure(args: argparse.Namespace, name: str, precision: str) -> float:
    """CPU seconds of an epoch."""
    torch.set_num_threads(1)
    rows = load_rows(args.windows, args.stays, args.inputs)
    embedding = default_embedding()
    if name == "ours":
        strategy = next(strategy for strategy in OURS if strategy.precision == precision)
        return float(time_epoch("lstm", strategy, rows, embedding, 1.0)["cpu_seconds"])
    if name == "bound":
        figures = time_torch_layer(rows, embedding or args.inputs, 0, precision, 1.0)
    else:
        longest_stay = int(rows.lengths.max())
        figures = time_torch_layer(rows, args.inputs, longest_stay, precision, args.share)
    return float(figures["cpu_seconds"])


def time_torch_layer(
    rows: StayRows, inputs: int, steps: int, precision: str, share: float
) -> dict[str, Any]:
    """CPU seconds of an epoch of ``torch.nn.LSTM`` and a linear output.

    Args:
        rows: The rows of the epoch.
        inputs: Inputs of the layer.
        steps: Steps of each batch; 0: the mean length of a stay.
        precision: float32 or bfloat16.
        share: Share of the batches that is timed.
    """
    batches = -(-len(rows.lengths) // BATCH_STAYS)
    steps = steps or -(-len(rows.y) // (batches * BATCH_STAYS))
    layer, head = torch.nn.LSTM(inputs, HIDDEN), torch.nn.Linear(HIDDEN, 1)
    optimiser = torch.optim.AdamW([*layer.parameters(), *head.parameters()], fused=True)
    x, y = torch.randn(steps, BATCH_STAYS, inputs), torch.zeros(steps, BATCH_STAYS, 1)

    def step() -> None:
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            logits = head(layer(x)[0])
        torch.nn.functional.binary_cross_entropy_with_logits(logits.float(), y).backward()
        optimiser.step()

    timed = max(WARM_UP_BATCHES, round(share * batches))
    for _ in range(WARM_UP_BATCHES):
        step()
    start = time.process_time()
    for _ in range(timed):
        step()
    seconds = (time.process_time() - start) * batches / timed
    return {"cpu_seconds": round(seconds, 2), "steps": steps}


def measure_cudnn_share(rows: StayRows) -> dict[str, Any]:
    """Rows a second of our epoch on the GPU, relative to cuDNN's layer alone on full batches."""
    if not torch.cuda.is_available():
        return {"skipped": "there is no CUDA device"}
    rows = replace(rows, x=rows.x.cuda().bfloat16(), y=rows.y.cuda(), weight=rows.weight.cuda())
    strategy = OURS[1]
    trainer = make_trainer("lstm", strategy, rows, 0)
    batches = draw(rows, strategy)

    def train() -> None:
        for stays in batches:
            trainer.step(gather(rows, stays), MEAN_SCORED_ROWS)

    inputs, steps = rows.x.shape[1], round(float(rows.lengths.mean()))
    layer = torch.nn.LSTM(inputs, HIDDEN).cuda()
    x = torch.randn(steps, BATCH_STAYS, inputs, device="cuda", dtype=torch.bfloat16)

    def run_layer() -> None:
        for _ in batches:
            with torch.autocast("cuda", torch.bfloat16):
                out = layer(x)[0]
            out.float().sum().backward()

    rate = len(rows.y) / _gpu_seconds(train)
    cudnn_rate = len(batches) * steps * BATCH_STAYS / _gpu_seconds(run_layer)
    return {
        "share": round(rate / cudnn_rate, 3),
        "rows_per_second": round(rate),
        "cudnn": round(cudnn_rate),
    }


def _gpu_seconds(work: Callable[[], None]) -> float:
    work()
    torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def show(**figures: Any) -> None:
    print(json.dumps({**figures, "gemm": round(gemm())}), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("windows", type=Path)
    parser.add_argument("--stays", type=int, default=13_000)
    parser.add_argument("--inputs", type=int, default=80)
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--repeats", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    (measure_ratios if arguments.repeats else measure_speed)(arguments)
