"""What a training epoch of the recurrent models costs, batch by batch, and whether speed costs accuracy.

    python benchmarks/training.py WINDOWS [--stays 13000] [--batches 40] [--inputs 80]
    python benchmarks/training.py WINDOWS --accuracy [--epochs 8] [--seeds 3] [--kind lstm]

WINDOWS is a folder written by ``Sequences.save`` (unscaled). One JSON line a figure; times are seconds of one core.
The first form times three ways to lay out the same random batches: padded to the longest stay of all, padded to the
batch's longest, and our slabs. ``loading`` is the share of the time spent in putting batches together; the rest is
forward, backward and optimiser. ``gemm`` is what the machine does just then in float32 (GFLOP/s): read the seconds
beside it. The second form trains with plain padded batches and with slabs, from equal seeds for as many epochs.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from flowsheet.models import _training
from flowsheet.models._batching import Slab, Table, batches, slab, slabs_of
from flowsheet.models._recurrent import RecurrentModel, RecurrentNet, slab_logits
from flowsheet.models._training import Trainer
from flowsheet.models.base import MODELS, Context
from flowsheet.windows.scaling import Scaler
from flowsheet.windows.sequences import Sequences

WARM = 4
"""Kernels are prepared in the first batches, which are not timed."""
Way = Callable[[Table, np.ndarray], list[Slab]]


def padded(table: Table, stays: np.ndarray, steps: int = 0) -> list[Slab]:
    """One slab as wide as the batch and as long as its longest stay, or longer."""
    lengths = table.lengths[stays]
    return [slab(table, table.starts[stays], lengths, (0, max(steps, int(lengths.max())), len(stays)))]


def parts(folder: Path, seed: int) -> list[Sequences]:
    """Training, validation and test stays (64, 16 and 20% of the subjects), scaled on the training stays."""
    everything = Sequences.load(folder)
    subjects = np.random.default_rng(seed).permutation(np.unique(everything.subject_id))
    cuts = (np.array([0.64, 0.8]) * len(subjects)).astype(int)
    chosen = [everything.of_subjects(part) for part in np.split(subjects, cuts)]
    scaler = Scaler.fit(chosen[0])
    return [scaler.transform(part) for part in chosen]


def gemm() -> float:
    """GFLOP/s of the recurrent product's own shape, on one thread."""
    a, b = torch.randn(64, 128), torch.randn(128, 512)
    start = time.process_time()
    for _ in range(500):
        torch.mm(a, b)
    return 500 * 2 * 64 * 128 * 512 / (time.process_time() - start) / 1e9


def epoch(kind: str, precision: str, way: Way, table: Table, number: int) -> dict[str, Any]:
    """Seconds of an epoch, from ``number`` batches of 64 stays."""
    cls = MODELS.get(kind)
    assert issubclass(cls, RecurrentModel)
    params = cls.Params(embedding=0, hidden=128, layers=1, precision=precision)
    net = RecurrentNet(cls.Layer, table.x.shape[1], params)
    trainer = Trainer(net, params, partial(slab_logits, net), lambda _: np.zeros(0), Context(seed=1))
    order = [*batches(np.arange(len(table.lengths)), 64, torch.Generator().manual_seed(1))]
    for batch in order[:WARM]:
        trainer.step(way(table, batch), 1000.0)
    timed = order[WARM : WARM + number]
    began, loading, cells = time.process_time(), 0.0, 0
    for batch in timed:
        start = time.process_time()
        slabs = way(table, batch)
        loading += time.process_time() - start
        trainer.step(slabs, 1000.0)
        cells += sum(s.y.numel() for s in slabs)
    total = time.process_time() - began
    rows = int(table.lengths[np.concatenate(timed)].sum())
    return {
        "cpu_seconds": round(total * len(order) / number, 2),
        "loading": round(loading / total, 3),
        "padding": round(cells / rows - 1, 3),
    }


def speed(args: argparse.Namespace) -> None:
    """Every way, model and precision."""
    train = parts(args.windows, 0)[0]
    train = train.take(np.arange(min(args.stays, len(train))))
    x = torch.from_numpy(np.ascontiguousarray(train.x[:, : args.inputs]))
    y, weight = (torch.from_numpy(a.astype(np.float32)) for a in (train.y, train.scored))
    table = Table(x, y, weight, train.offsets[:-1], train.lengths)
    longest = int(train.lengths.max())
    ways: dict[str, Way] = {
        "slabs": slabs_of,
        "padded to the batch's longest": padded,
        "padded to the longest": lambda table, stays: padded(table, stays, longest),
    }
    for kind in ("lstm", "gru", "rnn"):
        for precision in ("float32", "bfloat16"):
            for name, way in ways.items():
                number = args.batches if name == "slabs" else max(2, args.batches // 5)
                figures = epoch(kind, precision, way, table, number)
                show(kind=kind, precision=precision, way=name, inputs=x.shape[1], stays=len(train), **figures)


def accuracy(args: argparse.Namespace) -> None:
    """AUROC and AUPRC on held-out subjects."""
    train, valid, test = parts(args.windows, 0)
    cls = MODELS.get(args.kind)
    for seed in range(1, args.seeds + 1):
        for name, way in {"slabs": slabs_of, "padded": padded}.items():
            model = cls(cls.Params(epochs=args.epochs, patience=args.epochs))
            start = time.process_time()
            with patch.object(_training, "slabs_of", way):
                model.fit(train, valid, Context(seed=seed, score=lambda y, p: float(roc_auc_score(y, p))))
            seconds = round(time.process_time() - start, 1)
            y, p = test.y[test.scored], model.predict_proba(test)[test.scored]
            scores = {"auroc": round(roc_auc_score(y, p), 4), "auprc": round(average_precision_score(y, p), 4)}
            show(kind=args.kind, way=name, seed=seed, epochs=args.epochs, fit_cpu_seconds=seconds, **scores)


def show(**figures: Any) -> None:
    print(json.dumps({**figures, "gemm": round(gemm())}), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("windows", type=Path)
    parser.add_argument("--stays", type=int, default=13_000)
    parser.add_argument("--batches", type=int, default=40)
    parser.add_argument("--inputs", type=int, default=80)
    parser.add_argument("--accuracy", action="store_true")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--kind", choices=("lstm", "gru", "rnn"), default="lstm")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    (accuracy if arguments.accuracy else speed)(arguments)
