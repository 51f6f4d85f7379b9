"""Run time of an evaluation, and the coverage of its intervals; one JSON line a result.

    python benchmarks/evaluation.py bootstrap [--subjects 4000] [--rows 150000] [--models 10]
                                              [--resamples 1000]
    python benchmarks/evaluation.py folds [--models 4] [--repeats 2]
    python benchmarks/evaluation.py coverage [--repetitions 1000]

``bootstrap`` compares models by every metric, every pair and every curve; ``folds`` does so in
five-fold cross-validation, repeated. ``coverage`` repeats a comparison whose true difference is
known: 95% intervals of the difference should cover it in 95% of the repetitions, and two equal
models should be called different in at most 5%.
"""

from __future__ import annotations

import argparse
import json
import resource
import time

import numpy as np

from flowsheet.config import EvaluationConfig, TaskConfig
from flowsheet.evaluation.alert_policy import make_policies
from flowsheet.evaluation.bootstrap import Difference, bootstrap, estimate_difference
from flowsheet.evaluation.evidence import evaluate, evaluate_folds
from flowsheet.evaluation.folds import FoldPredictions
from flowsheet.evaluation.metrics import ScoredRows, get_metric
from flowsheet.windows.protocol import FoldId
from flowsheet.windows.sequences import Feature, Sequences

HOURLY = TaskConfig(name="hourly", step_hours=1, horizon=6, censor="keep")
THRESHOLD = 0.05
N_FOLDS = 5
COVERAGE_METRICS = ("auroc", "auprc", "brier", "log_loss")


def simulate_stays(
    n_subjects: int, n_rows: int, n_models: int
) -> tuple[Sequences, dict[str, np.ndarray]]:
    """One stay a subject, 2% of rows with the event, and models with larger and larger errors."""
    rng = np.random.default_rng(0)
    is_longer = np.arange(n_subjects) < n_rows % n_subjects
    lengths = np.full(n_subjects, n_rows // n_subjects) + is_longer
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    subject = np.repeat(np.arange(n_subjects), lengths)
    signal = rng.normal(size=n_subjects)[subject] + rng.normal(size=n_rows)
    y = (rng.random(n_rows) < 1 / (1 + np.exp(4.8 - signal))).astype(np.int8)
    sequences = Sequences(
        x=np.zeros((n_rows, 1), np.float32),
        y=y,
        scored=np.ones(n_rows, bool),
        in_state=rng.random(n_rows) < 0.5 * y,
        history=np.zeros((n_rows, 0), np.float32),
        step=np.concatenate([np.arange(1, n + 1) for n in lengths]).astype(np.int32),
        offsets=offsets,
        stay_id=np.arange(n_subjects),
        subject_id=np.arange(n_subjects),
        features=(Feature("none", "value", "none"),),
    )
    predictions = {
        f"model_{i}": 1 / (1 + np.exp(4.8 - signal - error * rng.normal(size=n_rows)))
        for i, error in enumerate(np.linspace(0.2, 2.0, n_models))
    }
    return sequences, predictions


def measure_bootstrap(args: argparse.Namespace) -> None:
    sequences, predictions = simulate_stays(args.subjects, args.rows, args.models)
    config = EvaluationConfig(name="benchmark", resamples=args.resamples)
    policies = make_policies(dict.fromkeys(predictions, THRESHOLD))
    start, start_cpu = time.perf_counter(), time.process_time()
    evidence = evaluate(sequences, predictions, config, seed=1, task=HOURLY, policies=policies)
    line = {
        "what": "bootstrap",
        "subjects": args.subjects,
        "rows": args.rows,
        "models": args.models,
        "resamples": args.resamples,
        "values": len(evidence.leaderboard),
        "pairs": len(evidence.pairs),
        **measure_since(start, start_cpu),
    }
    print(json.dumps(line))


def measure_since(start: float, start_cpu: float) -> dict[str, float]:
    """Seconds since both clocks were read, and the peak memory of the process."""
    return {
        "wall_s": round(time.perf_counter() - start, 2),
        "cpu_s": round(time.process_time() - start_cpu, 2),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def measure_folds(args: argparse.Namespace) -> None:
    sequences, predictions = simulate_stays(args.subjects, args.rows, args.models)
    config = EvaluationConfig(name="benchmark", resamples=args.resamples)
    folds = [
        make_fold(sequences, predictions, repeat, fold)
        for repeat in range(args.repeats)
        for fold in range(N_FOLDS)
    ]
    start, start_cpu = time.perf_counter(), time.process_time()
    evidence = evaluate_folds(sequences, folds, config, seed=1, task=HOURLY)
    line = {
        "what": "folds",
        "models": args.models,
        "repeats": args.repeats,
        "values": len(evidence.leaderboard) + len(evidence.folds),
        **measure_since(start, start_cpu),
    }
    print(json.dumps(line))


def make_fold(
    sequences: Sequences, predictions: dict[str, np.ndarray], repeat: int, fold: int
) -> FoldPredictions:
    """One fold of a random split of the subjects."""
    n_subjects = len(sequences)
    fold_of_subject = np.random.default_rng(repeat).permutation(n_subjects) % N_FOLDS
    held_out = np.flatnonzero(fold_of_subject == fold)
    rows = np.isin(sequences.subject_id, held_out)[sequences.row_stay]
    return FoldPredictions(
        FoldId(f"{repeat + 1}.{fold + 1}", repeat, fold),
        held_out,
        n_training_subjects=n_subjects - len(held_out),
        predictions={model: p[rows] for model, p in predictions.items()},
        policies=make_policies(dict.fromkeys(predictions, THRESHOLD)),
    )


def simulate_pair(
    rng: np.random.Generator, errors: tuple[float, float], n_subjects: int = 200
) -> list[ScoredRows]:
    """Two models that see the same signal with errors of their own; eight rows a subject."""
    subject = np.repeat(np.arange(n_subjects), 8)
    signal = rng.normal(size=n_subjects)[subject] + rng.normal(size=len(subject))
    y = (rng.random(len(subject)) < 1 / (1 + np.exp(2 - 1.5 * signal))).astype(np.int8)
    step = np.tile(np.arange(1, 9), n_subjects)
    observed = [signal + error * rng.normal(size=len(subject)) for error in errors]
    return [
        ScoredRows(y, 1 / (1 + np.exp(2 - view)), subject, subject, step, n_subjects)
        for view in observed
    ]


def measure_coverage(args: argparse.Namespace) -> None:
    metrics = [get_metric(name) for name in COVERAGE_METRICS]
    large_a, large_b = simulate_pair(np.random.default_rng(1), (0.5, 1.0), n_subjects=400_000)
    true_difference = {m.name: m(large_a) - m(large_b) for m in metrics}
    n_covered = dict.fromkeys(COVERAGE_METRICS, 0)
    n_significant = dict.fromkeys(COVERAGE_METRICS, 0)
    for i in range(args.repetitions):
        for name, difference in compare_pair(i, (0.5, 1.0), args.resamples).items():
            n_covered[name] += difference.low <= true_difference[name] <= difference.high
        for name, difference in compare_pair(i, (0.7, 0.7), args.resamples).items():
            n_significant[name] += difference.p < 0.05
    for name in COVERAGE_METRICS:
        line = {
            "what": "coverage",
            "metric": name,
            "repetitions": args.repetitions,
            "true_difference": round(true_difference[name], 5),
            "covered": n_covered[name] / args.repetitions,
            "equal_called_different": n_significant[name] / args.repetitions,
        }
        print(json.dumps(line), flush=True)


def compare_pair(seed: int, errors: tuple[float, float], resamples: int) -> dict[str, Difference]:
    """The difference of a simulated pair by each metric."""
    metrics = [get_metric(name) for name in COVERAGE_METRICS]
    a, b = simulate_pair(np.random.default_rng([seed, 77]), errors)
    draws = bootstrap({"a": a, "b": b}, metrics, resamples, seed=seed)
    return {
        m.name: estimate_difference(
            m(a) - m(b), draws["a", m.name] - draws["b", m.name], a.n_subjects, 0.95
        )
        for m in metrics
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    benchmarks = {
        "bootstrap": measure_bootstrap,
        "folds": measure_folds,
        "coverage": measure_coverage,
    }
    parser.add_argument("what", choices=list(benchmarks))
    parser.add_argument("--subjects", type=int, default=4000)
    parser.add_argument("--rows", type=int, default=150_000)
    parser.add_argument("--models", type=int, default=10)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=1000)
    args = parser.parse_args()
    benchmarks[args.what](args)


if __name__ == "__main__":
    main()
