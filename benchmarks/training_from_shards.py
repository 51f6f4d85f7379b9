"""Training from compressed shards beside training from memory: seconds and peak of memory.

    python benchmarks/training_from_shards.py SEQUENCES [--models lstm logistic_regression] \
        [--stays 2000] [--epochs 3] [--repeats 3]

SEQUENCES is the folder ``sequences`` of a stage of windows
(``$FLOWSHEET_HOME/store/windows/KEY/sequences``). Each fit has a process of its own with one
thread; the two ways take turns, so that other load affects both. Prints one JSON line for each
model and way, medians of the repeats: seconds of an epoch (networks; the first one, in which torch
prepares its kernels, is not counted) or of the fit, CPU seconds of the fit, and the peak of the
process less what it had before it read its inputs. ``ratio`` is shards to memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

WAYS = ("memory", "shards")


def fit(folder: Path, kind: str, way: str, stays: int, epochs: int) -> dict[str, Any]:
    """Fit one model; seconds, peak of memory and a digest of its predictions.

    Args:
        folder: The sequences.
        kind: A registered model.
        way: Where it reads its inputs.
        stays: How many, at most.
        epochs: Of networks.
    """
    import torch

    from flowsheet.models.base import MODELS, Context
    from flowsheet.state.hashing import digest
    from flowsheet.windows.scaling import Scaler
    from flowsheet.windows.sequences import Sequences

    torch.set_num_threads(1)
    sequences = Sequences.load(folder)
    sequences = sequences.take(np.arange(min(stays, len(sequences))))
    subjects = np.unique(sequences.subject_id)
    parts = np.split(np.random.default_rng(0).permutation(subjects), [int(0.8 * len(subjects))])
    train, valid = (sequences.select_subjects(part) for part in parts)
    cls = MODELS.get(kind)
    model = cls(cls.Params(**({"epochs": epochs} if "epochs" in cls.Params.model_fields else {})))
    peak_before = peak_bytes()
    scaler = Scaler.fit(train) if cls.capabilities.scaled else None
    if scaler:
        train, valid = scaler.transform(train), scaler.transform(valid)
    if way == "memory":
        train, valid = train.in_memory(), valid.in_memory()
    epoch_ends: list[float] = []
    start, cpu_start = time.perf_counter(), time.process_time()
    context = Context(seed=1, report_score=lambda *_: epoch_ends.append(time.perf_counter()))
    model.fit(train, valid, context)
    cpu, seconds = time.process_time() - cpu_start, time.perf_counter() - start
    is_network = "epochs" in cls.Params.model_fields
    return {
        "seconds": float(np.median(np.diff(epoch_ends))) if is_network else seconds,
        "cpu_seconds": cpu,
        "peak_mb": (peak_bytes() - peak_before) / 1e6,
        "rows": train.rows,
        "columns": train.x.shape[1],
        "predictions": digest(model.predict_proba(valid).tolist()),
    }


def peak_bytes() -> int:
    """The largest size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def run(args: argparse.Namespace, kind: str, way: str) -> dict[str, Any]:
    """Fit in a new process."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(fit, args.sequences, kind, way, args.stays, args.epochs).result()


def measure(args: argparse.Namespace, kind: str) -> None:
    """Print both ways and their ratio."""
    repeats = [{way: run(args, kind, way) for way in WAYS} for _ in range(args.repeats)]
    figures = ("seconds", "cpu_seconds", "peak_mb")
    for way in WAYS:
        values = {name: round(median(r[way][name] for r in repeats), 2) for name in figures}
        size = {name: repeats[0][way][name] for name in ("rows", "columns")}
        print(json.dumps({"model": kind, "inputs": way, **size, **values}), flush=True)
    ratio = {
        name: round(median(r["shards"][name] / r["memory"][name] for r in repeats), 2)
        for name in figures
    }
    is_same = len({r[way]["predictions"] for r in repeats for way in WAYS}) == 1
    print(json.dumps({"model": kind, "ratio": ratio, "same_predictions": is_same}), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sequences", type=Path)
    default = ["lstm", "logistic_regression", "gradient_boosting"]
    parser.add_argument("--models", nargs="+", default=default)
    parser.add_argument("--stays", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=1)
    arguments = parser.parse_args()
    for model_kind in arguments.models:
        measure(arguments, model_kind)
