"""Time to compute the metrics of 500,000 rows, compared with scikit-learn; one JSON line a metric.

    python benchmarks/scoring.py [--rows 500000] [--prevalence 0.02]

Seconds are processor time of this process, the best of three. "all" is every metric of the
default evaluation on complete hourly stays, PhysioNet 2019's utility among them.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from sklearn import metrics as sk

from flowsheet.config import EvaluationConfig
from flowsheet.evaluation.metrics import (
    RequiredInput,
    ScoredRows,
    get_metric,
    make_score_function,
    select_metrics,
)

SCIKIT_LEARN: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "auroc": sk.roc_auc_score,
    "auprc": sk.average_precision_score,
    "brier": sk.brier_score_loss,
    "log_loss": sk.log_loss,
}
HOURS = 40


def best_of_three(work: Callable[[], object]) -> float:
    """Processor seconds."""
    seconds = []
    for _ in range(3):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return round(min(seconds), 4)


def simulate_hourly_stays(rows: int, prevalence: float) -> ScoredRows:
    rng = np.random.default_rng(0)
    stay = np.repeat(np.arange(rows // HOURS + 1), HOURS)[:rows]
    step = np.tile(np.arange(1, HOURS + 1), rows // HOURS + 1)[:rows]
    stays = int(stay[-1]) + 1
    has_onset = rng.random(stays) < prevalence * 4
    onset = np.where(has_onset, rng.integers(HOURS // 2, HOURS + 1, stays), 99)
    y = (step >= onset[stay]).astype(np.int8)
    p = 1 / (1 + np.exp(3 - y + rng.normal(size=rows)))
    return ScoredRows(y, p, stay, stay, step, stays, is_alert=p > 0.05, has_whole_stays=True)


def without_cache(scored: ScoredRows) -> ScoredRows:
    """The same rows without the intermediate results that metrics share."""
    return replace(scored, _cache={})


def report(what: str, rows: int, flowsheet_seconds: float, **more: float) -> None:
    line = {"what": what, "rows": rows, "flowsheet_s": flowsheet_seconds, **more}
    print(json.dumps(line), flush=True)


def compare_with_scikit_learn(scored: ScoredRows, rows: int) -> None:
    y, p = scored.y, scored.p
    for name, peer in SCIKIT_LEARN.items():
        metric = make_score_function(name)
        report(
            name,
            rows,
            best_of_three(lambda metric=metric: metric(y, p)),
            scikit_learn_s=best_of_three(lambda peer=peer: peer(y, p)),
            difference=abs(abs(metric(y, p)) - peer(y, p)),
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--prevalence", type=float, default=0.02)
    options = parser.parse_args()
    scored = simulate_hourly_stays(options.rows, options.prevalence)
    compare_with_scikit_learn(scored, options.rows)

    config = EvaluationConfig(name="benchmark")
    metrics = select_metrics(config.operating_points, config.metric)
    applicable = [metric for metric in metrics if metric.is_applicable(scored)]

    def compute_all() -> None:
        rows = without_cache(scored)
        for metric in applicable:
            metric(rows)

    report("all", options.rows, best_of_three(compute_all), metrics=len(applicable))

    utility = get_metric("normalised_utility")
    assert utility.requires is RequiredInput.whole_stays
    seconds = best_of_three(lambda: utility(without_cache(scored)))
    report("normalised_utility", options.rows, seconds)


if __name__ == "__main__":
    main()
