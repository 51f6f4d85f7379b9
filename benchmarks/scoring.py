"""How long 500,000 rows take to score, beside scikit-learn; one JSON line a figure.

    python benchmarks/scoring.py [--rows 500000] [--prevalence 0.02]

Seconds are CPU time of this process, the best of three. "all" is every metric of the default
evaluation on whole hourly stays, PhysioNet 2019's utility among them.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import numpy as np
from sklearn import metrics as sk

from flowsheet.config import EvaluationConfig
from flowsheet.evaluation.metrics import (
    Metric,
    RequiredInput,
    ScoredRows,
    get_metric,
    make_score_function,
    select_metrics,
)

PEERS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "auroc": sk.roc_auc_score,
    "auprc": sk.average_precision_score,
    "brier": sk.brier_score_loss,
    "log_loss": sk.log_loss,
}


def best_of_three(work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(3):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return round(min(seconds), 4)


def hourly_stays(rows: int, prevalence: float) -> ScoredRows:
    rng = np.random.default_rng(0)
    stay = np.repeat(np.arange(rows // 40 + 1), 40)[:rows]
    step = np.tile(np.arange(1, 41), rows // 40 + 1)[:rows]
    onset = np.where(
        rng.random(stay[-1] + 1) < prevalence * 4, rng.integers(20, 41, stay[-1] + 1), 99
    )
    y = (step >= onset[stay]).astype(np.int8)
    p = 1 / (1 + np.exp(3 - y + rng.normal(size=rows)))
    return ScoredRows(
        y, p, stay, stay, step, int(stay[-1]) + 1, is_alert=p > 0.05, has_whole_stays=True
    )


def default_metrics() -> list[Metric]:
    config = EvaluationConfig(name="benchmark")
    return select_metrics(config.operating_points, config.metric)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--prevalence", type=float, default=0.02)
    given = parser.parse_args()
    scored = hourly_stays(given.rows, given.prevalence)
    y, p = scored.y, scored.p
    for name, peer in PEERS.items():
        score = make_score_function(name)
        line = {
            "what": name,
            "rows": given.rows,
            "flowsheet_s": best_of_three(lambda f=score: f(y, p)),
            "scikit_learn_s": best_of_three(lambda f=peer: f(y, p)),
            "difference": abs(abs(score(y, p)) - peer(y, p)),
        }
        print(json.dumps(line), flush=True)
    of_rows = [metric for metric in default_metrics() if metric.is_applicable(scored)]
    fresh = best_of_three(
        lambda: [metric(hourly) for hourly in [rebuilt(scored)] for metric in of_rows]
    )
    print(
        json.dumps(
            {"what": "all", "metrics": len(of_rows), "rows": given.rows, "flowsheet_s": fresh}
        )
    )
    utility = get_metric("normalised_utility")
    assert utility.requires is RequiredInput.whole_stays
    seconds = best_of_three(lambda: utility(rebuilt(scored)))
    print(json.dumps({"what": "normalised_utility", "rows": given.rows, "flowsheet_s": seconds}))


def rebuilt(scored: ScoredRows) -> ScoredRows:
    """The same rows with an empty cache."""
    return ScoredRows(
        *(
            scored.y,
            scored.p,
            scored.subject,
            scored.stay,
            scored.step,
            scored.n_subjects,
            scored.is_alert,
        ),
        has_whole_stays=True,
    )


if __name__ == "__main__":
    main()
