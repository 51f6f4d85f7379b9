"""What a training epoch of the recurrent models costs, and whether speed costs accuracy.

    python benchmarks/training.py WINDOWS [--stays 13000] [--inputs 80] [--share 0.1]
    python benchmarks/training.py WINDOWS --turns 5
    python benchmarks/training.py WINDOWS --accuracy [--epochs 14] [--seeds 3] [--kind lstm]

WINDOWS is a folder written by ``Sequences.save`` (unscaled). One JSON line a figure, for one
thread; ``cpu_seconds`` are the process's own, ``gemm`` is what the machine does just then in
float32 (GFLOP/s, the recurrent product's shape): read the seconds beside it. The first form times
an epoch of one layer of 128 units in batches of 64 stays, laid out in several ways (the slow ones
from a ``--share`` of their batches). ``inside`` is the share of the time spent in forward, backward
and optimiser; the rest puts batches together and averages weights. Machines differ, so beside them
stand the bounds of this one: ``torch.nn.LSTM`` with a linear output and nothing else, on stays
padded to the longest (what a user would do otherwise), and on as many rows without any padding
(what no training of that width can beat). All of them keep freed memory, as our training does.
Where there is a GPU, it also tells the share of cuDNN's own rate that training reaches. The second
form takes turns, so that what else the machine does meets all alike, and tells how many times as
long padding takes as ours, with freed memory kept and (``plain``) given back, as torch does by
itself, and ours as the bound. The third trains in these ways with equal seeds for as many epochs,
and scores subjects held out.
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
from unittest.mock import patch

import numpy as np
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from flowsheet.models import _training
from flowsheet.models._batching import POOL, Batch, Layout, Table, batches, gather
from flowsheet.models._recurrent import (
    RecurrentLayer,
    RecurrentModel,
    RecurrentNet,
    RecurrentParams,
)
from flowsheet.models._training import Trainer, kept_memory
from flowsheet.models.base import MODELS, Context
from flowsheet.typing import Ints
from flowsheet.windows.scaling import Scaler
from flowsheet.windows.sequences import Sequences

WARM = 4
"""Kernels are prepared in the first batches, which are not timed."""


@dataclass(frozen=True)
class Way:
    """How stays become batches."""

    name: str
    pool: int = POOL
    layout: Layout | None = None
    """The layer's own."""
    precision: str = "float32"
    slow: bool = False

    def gather(self, kind: str, table: Table, stays: Ints) -> Batch:
        """A batch for this kind of layer on the CPU."""
        return gather(table, stays, self.layout or layer_of(kind).layout(self.precision))


def padded(lengths: Ints, stay: Ints, step: Ints, steps: int = 0) -> tuple[Ints, list[int]]:
    """As many columns as stays, as long as the longest stay, or longer."""
    return step * len(lengths) + stay, [len(lengths)] * max(steps, int(lengths[0]))


RANDOM = Way("random batches, laid out as ours", pool=1)
PADDED = Way("random batches, padded to the batch's longest", pool=1, layout=padded, slow=True)
OURS = (Way("ours"), Way("ours, bfloat16", precision="bfloat16"))


def parts(folder: Path, seed: int) -> list[Sequences]:
    """Training, validation and test stays (64, 16 and 20% of the subjects), scaled on the training stays."""
    everything = Sequences.load(folder)
    subjects = np.random.default_rng(seed).permutation(np.unique(everything.subject_id))
    cuts = (np.array([0.64, 0.8]) * len(subjects)).astype(int)
    chosen = [everything.select_subjects(part) for part in np.split(subjects, cuts)]
    scaler = Scaler.fit(chosen[0])
    return [scaler.transform(part) for part in chosen]


def gemm() -> float:
    """GFLOP/s of the recurrent product's own shape, on one thread."""
    a, b = torch.randn(64, 128), torch.randn(128, 512)
    start = time.process_time()
    for _ in range(500):
        torch.mm(a, b)
    return 500 * 2 * 64 * 128 * 512 / (time.process_time() - start) / 1e9


def layer_of(kind: str) -> type[RecurrentLayer]:
    cls = MODELS.get(kind)
    assert issubclass(cls, RecurrentModel)
    return cls.Layer


def trainer_of(kind: str, way: Way, table: Table, embedding: int) -> Trainer:
    """A network of one layer of 128 units that has learnt nothing yet, on the table's device."""
    params = MODELS.get(kind).Params(
        embedding=embedding, hidden=128, layers=1, precision=way.precision
    )
    assert isinstance(params, RecurrentParams)
    net = RecurrentNet(layer_of(kind), table.x.shape[1], params).to(table.x.device)
    return Trainer(net, params, net.train_logits, lambda _: np.zeros(0), Context(seed=1))


def epoch(kind: str, way: Way, table: Table, embedding: int, share: float) -> dict[str, Any]:
    """Seconds of an epoch in batches of 64 stays, from a share of them."""
    trainer = trainer_of(kind, way, table, embedding)
    table = replace(table, x=table.x.to(getattr(torch, way.precision)))
    order = batches(table.lengths, 64, torch.Generator().manual_seed(1), way.pool)
    for batch in order[:WARM]:
        trainer.step(way.gather(kind, table, batch), 1000.0)
    timed = order[: max(WARM, round(share * len(order)))]
    began, cpu, inside, cells = time.perf_counter(), time.process_time(), 0.0, 0
    for i, stays in enumerate(timed):
        batch = way.gather(kind, table, stays)
        start = time.process_time()
        trainer.step(batch, 1000.0)
        inside += time.process_time() - start
        trainer._average(i)
        cells += len(batch.y)
    total, scale = time.process_time() - cpu, len(order) / len(timed)
    return {
        "seconds": round((time.perf_counter() - began) * scale, 2),
        "cpu_seconds": round(total * scale, 2),
        "inside": round(inside / total, 3),
        "padding": round(cells / int(table.lengths[np.concatenate(timed)].sum()) - 1, 3),
    }


@cache
def table_of(folder: Path, stays: int, inputs: int) -> Table:
    """So many stays and inputs of the training part."""
    train = parts(folder, 0)[0]
    train = train.take(np.arange(min(stays, len(train))))
    x = torch.from_numpy(np.ascontiguousarray(train.x[:, :inputs]))
    y, weight = (torch.from_numpy(a.astype(np.float32)) for a in (train.y, train.scored))
    return Table(x, y, weight, train.offsets[:-1], train.lengths)


@kept_memory()
def speed(args: argparse.Namespace) -> None:
    """Every way for the LSTM, ours for the others."""
    table = table_of(args.windows, args.stays, args.inputs)
    longest = Way(
        "padded to the longest", 1, partial(padded, steps=int(table.lengths.max())), slow=True
    )
    default = MODELS.get("lstm").Params().model_dump()["embedding"]
    for embedding in (default, 0):
        about = {"inputs": table.x.shape[1], "embedding": embedding, "stays": len(table.lengths)}
        for kind in ("lstm", "gru", "rnn"):
            ways = (*OURS, RANDOM, PADDED, longest) if kind == "lstm" else OURS[:1]
            for way in ways:
                figures = epoch(kind, way, table, embedding, args.share if way.slow else 1.0)
                show(kind=kind, way=way.name, **about, **figures)
    for inputs in (table.x.shape[1], default):
        for name, steps in (
            ("padded to the longest", int(table.lengths.max())),
            ("nothing padded", 0),
        ):
            for precision in ("float32", "bfloat16"):
                seconds = alone(table, inputs, steps, precision, args.share)
                show(
                    kind="lstm",
                    way=f"torch's layer alone, {name}",
                    inputs=inputs,
                    precision=precision,
                    **seconds,
                )
    show(figure="share of cuDNN's own rate", **cudnn_share(table))


def proportions(args: argparse.Namespace) -> None:
    """What padding costs as a multiple of our epoch, and ours of the bound, turn about; the medians
    of the turns.

    Each works in a process of its own, whose first turn does not count. The bound has as many
    inputs as our recurrence is given, after the embedding.
    """
    names = [(work, way.precision) for way in OURS for work in ("ours", "bound")]
    works = [("padding", "float32"), ("plain", "float32"), *names]
    with ExitStack() as stack:
        pools = [stack.enter_context(process(keeps=work != "plain")) for work, _ in works]
        rounds = []
        for _ in range(1 + args.turns):
            took = [
                pool.submit(turn, args, *work).result()
                for pool, work in zip(pools, works, strict=True)
            ]
            rounds.append(dict(zip(works, took, strict=True)))
    for way in OURS:
        columns = {
            name: np.array([one[name, way.precision] for one in rounds[1:]])
            for name in ("ours", "bound")
        }
        for name in ("padding", "plain"):
            columns[name] = np.array([one[name, "float32"] for one in rounds[1:]])
            columns[f"{name} / ours"] = columns[name] / columns["ours"]
        columns["ours / bound"] = columns["ours"] / columns["bound"]
        for figure, values in columns.items():
            spread = {"median": np.median(values), "least": values.min(), "most": values.max()}
            show(
                precision=way.precision,
                figure=figure,
                **{k: round(float(v), 2) for k, v in spread.items()},
            )


def process(*, keeps: bool) -> ProcessPoolExecutor:
    """One of its own, which keeps the memory that it frees or gives it back."""
    return ProcessPoolExecutor(1, get_context("spawn"), keep_memory if keeps else None)


MEMORY = ExitStack()


def keep_memory() -> None:
    """As training does, until the process ends."""
    MEMORY.enter_context(kept_memory())


def turn(args: argparse.Namespace, work: str, precision: str) -> float:
    """Seconds of the processor for an epoch."""
    torch.set_num_threads(1)
    table = table_of(args.windows, args.stays, args.inputs)
    embedding = MODELS.get("lstm").Params().model_dump()["embedding"]
    if work == "ours":
        way = next(way for way in OURS if way.precision == precision)
        return float(epoch("lstm", way, table, embedding, 1.0)["cpu_seconds"])
    if work in ("padding", "plain"):
        return float(
            alone(table, args.inputs, int(table.lengths.max()), precision, args.share)[
                "cpu_seconds"
            ]
        )
    return float(alone(table, embedding or args.inputs, 0, precision, 1.0)["cpu_seconds"])


def alone(table: Table, inputs: int, steps: int, precision: str, share: float) -> dict[str, Any]:
    """Seconds of an epoch of torch's layer in batches of 64 stays of so many steps; 0: of the mean length."""
    number = -(-len(table.lengths) // 64)
    steps = steps or -(-len(table.y) // (number * 64))
    layer, head = torch.nn.LSTM(inputs, 128), torch.nn.Linear(128, 1)
    optimiser = torch.optim.AdamW([*layer.parameters(), *head.parameters()], fused=True)
    x, y = torch.randn(steps, 64, inputs), torch.zeros(steps, 64, 1)

    def step() -> None:
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            logits = head(layer(x)[0])
        torch.nn.functional.binary_cross_entropy_with_logits(logits.float(), y).backward()
        optimiser.step()

    timed = max(WARM, round(share * number))
    for _ in range(WARM):
        step()
    cpu = time.process_time()
    for _ in range(timed):
        step()
    return {"cpu_seconds": round((time.process_time() - cpu) * number / timed, 2), "steps": steps}


def cudnn_share(table: Table) -> dict[str, Any]:
    """Rows a second of our epoch on the GPU, beside those of cuDNN's layer alone on full batches of like length."""
    if not torch.cuda.is_available():
        return {"skipped": "no CUDA device here"}
    there = replace(
        table, x=table.x.cuda().bfloat16(), y=table.y.cuda(), weight=table.weight.cuda()
    )
    way = OURS[1]
    trainer = trainer_of("lstm", way, there, 0)
    order = batches(there.lengths, 64, torch.Generator().manual_seed(1), way.pool)

    def ours() -> None:
        for batch in order:
            trainer.step(gather(there, batch), 1000.0)

    layer, steps = torch.nn.LSTM(there.x.shape[1], 128).cuda(), round(float(there.lengths.mean()))
    x = torch.randn(steps, 64, there.x.shape[1], device="cuda", dtype=torch.bfloat16)

    def alone() -> None:
        for _ in order:
            with torch.autocast("cuda", torch.bfloat16):
                out = layer(x)[0]
            out.float().sum().backward()

    rates = [
        rows / _gpu_seconds(work)
        for rows, work in ((len(there.y), ours), (len(order) * steps * 64, alone))
    ]
    return {
        "share": round(rates[0] / rates[1], 3),
        "rows_per_second": round(rates[0]),
        "cudnn": round(rates[1]),
    }


def _gpu_seconds(work: Callable[[], None]) -> float:
    work()
    torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def accuracy(args: argparse.Namespace) -> None:
    """AUROC and AUPRC on held-out subjects."""
    train, valid, test = parts(args.windows, 0)
    cls = MODELS.get(args.kind)
    for seed in range(1, args.seeds + 1):
        for way in (RANDOM, *OURS):
            model = cls(
                cls.Params(epochs=args.epochs, patience=args.epochs, precision=way.precision)
            )
            start = time.process_time()
            with ExitStack() as stack:
                stack.enter_context(
                    patch.object(
                        _training,
                        "gather",
                        lambda *given, way=way: way.gather(args.kind, *given[:2]),
                    )
                )
                stack.enter_context(
                    patch.object(_training, "batches", partial(batches, pool=way.pool))
                )
                model.fit(
                    train, valid, Context(seed=seed, score=lambda y, p: float(roc_auc_score(y, p)))
                )
            seconds = round(time.process_time() - start, 1)
            y, p = test.y[test.scored], model.predict_proba(test)[test.scored]
            scores = {
                "auroc": round(roc_auc_score(y, p), 4),
                "auprc": round(average_precision_score(y, p), 4),
            }
            show(
                kind=args.kind,
                way=way.name,
                seed=seed,
                epochs=args.epochs,
                fit_cpu_seconds=seconds,
                **scores,
            )


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
    parser.add_argument("--turns", type=int, default=0)
    parser.add_argument("--accuracy", action="store_true")
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--kind", choices=("lstm", "gru", "rnn"), default="lstm")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    (accuracy if arguments.accuracy else proportions if arguments.turns else speed)(arguments)
