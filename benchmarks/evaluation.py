"""How long evidence takes, and whether its intervals hold what they promise; one JSON line a
figure.

    python benchmarks/evaluation.py bootstrap [--subjects 4000] [--rows 150000] [--models 10]
    [--resamples 1000] python benchmarks/evaluation.py folds [--models 4] [--repeats 2] python
    benchmarks/evaluation.py coverage [--repetitions 1000]

``bootstrap`` compares models with every registered metric, every pair and every curve; ``folds``
does it for five-fold cross-validation, repeated. ``coverage`` repeats a comparison whose true
difference is known: 95% intervals of the difference should cover it in 95% of repetitions, and two
equal models should be called different in at most 5%.
"""

from __future__ import annotations

import argparse
import json
import resource
import time

import numpy as np

from flowsheet.config import EvaluationConfig, TaskConfig
from flowsheet.evaluation.bootstrap import bootstrap, difference
from flowsheet.evaluation.evidence import evaluate, evaluate_folds
from flowsheet.evaluation.folds import FoldPredictions
from flowsheet.evaluation.metrics import METRICS, ScoredRows
from flowsheet.windows.sequences import Feature, Sequences

HOURLY = TaskConfig(name="hourly", step_hours=1, horizon=6, censor="keep")


def ward(subjects: int, rows: int, models: int) -> tuple[Sequences, dict[str, np.ndarray]]:
    """One stay a subject, 2% of rows with the event, and models of growing noise."""
    rng = np.random.default_rng(0)
    lengths = np.full(subjects, rows // subjects) + (np.arange(subjects) < rows % subjects)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    signal = rng.normal(size=subjects)[np.repeat(np.arange(subjects), lengths)] + rng.normal(
        size=rows
    )
    y = (rng.random(rows) < 1 / (1 + np.exp(4.8 - signal))).astype(np.int8)
    sequences = Sequences(
        x=np.zeros((rows, 1), np.float32),
        y=y,
        scored=np.ones(rows, bool),
        in_state=rng.random(rows) < 0.5 * y,
        history=np.zeros((rows, 0), np.float32),
        step=np.concatenate([np.arange(1, n + 1) for n in lengths]).astype(np.int32),
        offsets=offsets,
        stay_id=np.arange(subjects),
        subject_id=np.arange(subjects),
        features=(Feature("none", "value", "none"),),
    )
    noise = np.linspace(0.2, 2.0, models)
    return sequences, {
        f"model_{i}": 1 / (1 + np.exp(4.8 - signal - s * rng.normal(size=rows)))
        for i, s in enumerate(noise)
    }


def measure_bootstrap(given: argparse.Namespace) -> None:
    sequences, predictions = ward(given.subjects, given.rows, given.models)
    config = EvaluationConfig(name="benchmark", resamples=given.resamples)
    rings = dict.fromkeys(predictions, 0.05)
    start, cpu = time.perf_counter(), time.process_time()
    evidence = evaluate(sequences, predictions, config, seed=1, task=HOURLY, thresholds=rings)
    line = {
        "what": "bootstrap",
        "subjects": given.subjects,
        "rows": given.rows,
        "models": given.models,
        "resamples": given.resamples,
        "figures": len(evidence.leaderboard),
        "pairs": len(evidence.pairs),
        "wall_s": round(time.perf_counter() - start, 2),
        "cpu_s": round(time.process_time() - cpu, 2),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    print(json.dumps(line))


def measure_folds(given: argparse.Namespace) -> None:
    sequences, predictions = ward(given.subjects, given.rows, given.models)
    config = EvaluationConfig(name="benchmark", resamples=given.resamples)
    rings, folds = dict.fromkeys(predictions, 0.05), []
    for repeat in range(given.repeats):
        dealt = np.random.default_rng(repeat).permutation(given.subjects) % 5
        for k in range(5):
            held = np.flatnonzero(dealt == k)
            rows = np.isin(sequences.subject_id, held)[sequences.row_stay]
            said = {model: p[rows] for model, p in predictions.items()}
            folds.append(FoldPredictions(repeat, k, held, given.subjects - len(held), said, rings))
    start, cpu = time.perf_counter(), time.process_time()
    evidence = evaluate_folds(sequences, folds, config, seed=1, task=HOURLY)
    line = {
        "what": "folds",
        "models": given.models,
        "repeats": given.repeats,
        "figures": len(evidence.leaderboard) + len(evidence.folds),
        "wall_s": round(time.perf_counter() - start, 2),
        "cpu_s": round(time.process_time() - cpu, 2),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    print(json.dumps(line))


def contest(
    rng: np.random.Generator, noise: tuple[float, float], subjects: int = 200
) -> list[ScoredRows]:
    """Two models that see the same signal through noises of their own; eight rows a subject."""
    subject = np.repeat(np.arange(subjects), 8)
    signal = rng.normal(size=subjects)[subject] + rng.normal(size=len(subject))
    y = (rng.random(len(subject)) < 1 / (1 + np.exp(2 - 1.5 * signal))).astype(np.int8)
    step = np.tile(np.arange(1, 9), subjects)
    views = [signal + s * rng.normal(size=len(subject)) for s in noise]
    return [
        ScoredRows(y, 1 / (1 + np.exp(2 - view)), subject, subject, step, subjects)
        for view in views
    ]


def measure_coverage(given: argparse.Namespace) -> None:
    metrics = [METRICS.get(name)() for name in ("auroc", "auprc", "brier", "log_loss")]
    large = contest(np.random.default_rng(1), (0.5, 1.0), subjects=400_000)
    truth = {m.name: m(large[0]) - m(large[1]) for m in metrics}
    covered, called = ({m.name: 0 for m in metrics} for _ in range(2))
    for i in range(given.repetitions):
        for noise, counts in (((0.5, 1.0), covered), ((0.7, 0.7), called)):
            a, b = contest(np.random.default_rng([i, 77]), noise)
            draws = bootstrap({"a": a, "b": b}, metrics, given.resamples, seed=i)
            for m in metrics:
                found = difference(
                    m(a) - m(b), draws["a", m.name] - draws["b", m.name], a.subjects, 0.95
                )
                inside = found.low <= truth[m.name] <= found.high
                counts[m.name] += int(inside if counts is covered else found.p < 0.05)
    for m in metrics:
        line = {
            "what": "coverage",
            "metric": m.name,
            "repetitions": given.repetitions,
            "true_difference": round(truth[m.name], 5),
            "covered": covered[m.name] / given.repetitions,
            "equal_called_different": called[m.name] / given.repetitions,
        }
        print(json.dumps(line), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["bootstrap", "folds", "coverage"])
    parser.add_argument("--subjects", type=int, default=4000)
    parser.add_argument("--rows", type=int, default=150_000)
    parser.add_argument("--models", type=int, default=10)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=1000)
    given = parser.parse_args()
    {"bootstrap": measure_bootstrap, "folds": measure_folds, "coverage": measure_coverage}[
        given.what
    ](given)


if __name__ == "__main__":
    main()
