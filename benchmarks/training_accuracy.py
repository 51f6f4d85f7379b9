"""Whether fast batching of stays costs accuracy.

    python benchmarks/training_accuracy.py WINDOWS [--epochs 14] [--seeds 3] [--kind lstm]

Trains with each strategy of ``benchmarks/training.py``, with equal seeds and epochs, and scores the
held-out subjects. Prints one JSON line per model.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path
from unittest.mock import patch

import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from training import OURS, RANDOM, Strategy, show, split

from flowsheet.models import _batching
from flowsheet.models._batching import Batch, Layout, StayRows, draw_batches
from flowsheet.models.base import MODELS, Context
from flowsheet.typing import Ints


def measure_accuracy(args: argparse.Namespace) -> None:
    """AUROC and AUPRC on held-out subjects."""
    train, valid, test = split(args.windows, 0)
    cls = MODELS.get(args.kind)
    for seed in range(1, args.seeds + 1):
        context = Context(seed=seed, score=lambda y, p: float(roc_auc_score(y, p)))
        for strategy in (RANDOM, *OURS):
            params = cls.Params(
                epochs=args.epochs, patience=args.epochs, precision=strategy.precision
            )
            model = cls(params)

            def gather_by_strategy(
                rows: StayRows, stays: Ints, layout: Layout, strategy: Strategy = strategy
            ) -> Batch:
                return strategy.gather(args.kind, rows, stays)

            draw_by_strategy = partial(draw_batches, pool_batches=strategy.pool_batches)
            start = time.process_time()
            with (
                patch.object(_batching, "gather", gather_by_strategy),
                patch.object(_batching, "draw_batches", draw_by_strategy),
            ):
                model.fit(train, valid, context)
            seconds = time.process_time() - start
            y, p = test.y[test.scored], model.predict_proba(test)[test.scored]
            show(
                kind=args.kind,
                strategy=strategy.name,
                seed=seed,
                epochs=args.epochs,
                fit_cpu_seconds=round(seconds, 1),
                auroc=round(roc_auc_score(y, p), 4),
                auprc=round(average_precision_score(y, p), 4),
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("windows", type=Path)
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--kind", choices=("lstm", "gru", "rnn"), default="lstm")
    torch.set_num_threads(1)
    measure_accuracy(parser.parse_args())
