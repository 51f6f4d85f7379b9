"""Every model's metrics compared with the oracle's, over subjects and over replicates.

The oracle predicts the true probability of every row under the data-generating process: its
expected log loss is the lowest possible.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import polars as pl

from flowsheet.evaluation.bootstrap import bootstrap, percentile_interval
from flowsheet.evaluation.metrics import ScoredRows, get_metric
from flowsheet.typing import Floats
from flowsheet.windows.sequences import Sequences

ORACLE = "oracle"
"""The oracle's name among the models."""
METRIC_NAMES = ("log_loss", "auroc", "auprc", "brier")
SHARE = "share_of_oracle"
"""(LL(baseline) - LL(model)) / (LL(baseline) - LL(oracle)), LL the mean log loss."""


@dataclass(frozen=True)
class ReplicateScores:
    """Metrics of one replicate's held-out stays by (model, metric)."""

    values: dict[tuple[str, str], float]
    draws: dict[tuple[str, str], Floats]
    """The metrics in B resamples of the subjects, shapes (B,)."""


def score_replicate(
    sequences: Sequences,
    predictions: Mapping[str, Floats],
    oracle: Floats,
    baseline: str,
    *,
    resamples: int,
    seed: int,
) -> ReplicateScores:
    """The metrics of every model and of the oracle on the scored rows.

    Args:
        sequences: the held-out stays, N rows.
        predictions: each model's probability of every row, shape (N,).
        oracle: the true probability of every row, shape (N,).
        baseline: the model whose share of the oracle bound is 0.
        resamples: B, the number of resamples of the subjects.
        seed: of the resamples.
    """
    metrics = [get_metric(name) for name in METRIC_NAMES]
    scored = {
        name: _score_rows(sequences, p) for name, p in {**predictions, ORACLE: oracle}.items()
    }
    values = {
        (name, metric.name): metric(rows) for name, rows in scored.items() for metric in metrics
    }
    draws = bootstrap(scored, metrics, resamples, seed)
    for name in scored:
        trio = (baseline, name, ORACLE)
        losses = [np.array(values[model, "log_loss"]) for model in trio]
        values[name, SHARE] = float(_share_of_oracle(*losses))
        if draws:
            resampled_losses = [draws[model, "log_loss"] for model in trio]
            draws[name, SHARE] = _share_of_oracle(*resampled_losses)
    return ReplicateScores(values, draws)


def _share_of_oracle(baseline: Floats, model: Floats, oracle: Floats) -> Floats:
    return np.asarray((baseline - model) / (baseline - oracle))


def _score_rows(sequences: Sequences, p: Floats) -> ScoredRows:
    rows, stay = np.asarray(sequences.scored), sequences.row_stay
    subjects, subject_of_stay = np.unique(sequences.subject_id, return_inverse=True)
    return ScoredRows(
        y=np.asarray(sequences.y[rows]),
        p=np.asarray(p[rows], np.float64),
        subject=subject_of_stay[stay[rows]],
        stay=stay[rows],
        step=np.asarray(sequences.step[rows], np.int64),
        n_subjects=len(subjects),
    )


def estimate_mean(
    values: Sequence[float] | Floats, confidence: float
) -> tuple[float, float, float]:
    """Mean, and Student's interval for the mean of independent replicates.

    The limits are NaN with fewer than two replicates.

    >>> tuple(round(v, 3) for v in estimate_mean([1.0, 2.0, 3.0], 0.95))
    (2.0, -0.484, 4.484)
    """
    from scipy.special import stdtrit

    values = np.asarray(values, np.float64)
    n, mean = len(values), float(values.mean())
    if n < 2:
        return mean, math.nan, math.nan
    quantile = float(stdtrit(n - 1, 0.5 + confidence / 2))
    margin = quantile * float(values.std(ddof=1)) / math.sqrt(n)
    return mean, mean - margin, mean + margin


def summarize_scores(replicates: Sequence[ReplicateScores], confidence: float) -> pl.DataFrame:
    """One row a model and metric, the lowest log loss first (the oracle's).

    Columns model, metric, value (mean over replicates), low and high (over subjects: resampled
    within each replicate, then averaged), replicates_low and replicates_high (Student's over
    replicates), and values (of each replicate).
    """
    models = sorted(
        {model for model, _ in replicates[0].values},
        key=lambda model: np.mean([scores.values[model, "log_loss"] for scores in replicates]),
    )
    rows = []
    for model in models:
        for metric in (*METRIC_NAMES, SHARE):
            key = (model, metric)
            by_replicate = [
                (scores.values.get(key), scores.draws.get(key)) for scores in replicates
            ]
            rows.append({"model": model, "metric": metric, **_summarize(by_replicate, confidence)})
    return pl.DataFrame(rows)


_COMPARISONS = {
    "first": pl.String(),
    "second": pl.String(),
    **dict.fromkeys(("value", "low", "high", "replicates_low", "replicates_high"), pl.Float64()),
    "values": pl.List(pl.Float64()),
    "n_lower": pl.Int64(),
    "summary": pl.String(),
}


def compare_log_losses(
    replicates: Sequence[ReplicateScores],
    pairs: Sequence[tuple[str, str]],
    confidence: float,
    titles: Mapping[str, str] = MappingProxyType({}),
) -> pl.DataFrame:
    """The log loss of the first of each pair minus that of the second, with both intervals.

    Columns as in :func:`summarize_scores`; ``n_lower`` counts the replicates in which the first is
    lower, ``summary`` is the comparison in a sentence. Pairs with a model that is missing are left
    out.

    Args:
        replicates: the scores in each.
        pairs: names of models.
        confidence: of the intervals.
        titles: by model, for the sentences; a model without one by its name.
    """
    models = {model for model, _ in replicates[0].values}
    rows = []
    for first, second in pairs:
        if {first, second} <= models:
            differences = [_difference(scores, first, second) for scores in replicates]
            difference = _summarize(differences, confidence)
            n_lower = sum(value < 0 for value in difference["values"])
            row = {"first": first, "second": second, **difference, "n_lower": n_lower}
            named = row | {"first": titles.get(first, first), "second": titles.get(second, second)}
            rows.append({**row, "summary": _describe_comparison(named, confidence)})
    return pl.DataFrame(rows, schema=_COMPARISONS)


def _difference(scores: ReplicateScores, first: str, second: str) -> tuple[float, Floats | None]:
    a, b = (first, "log_loss"), (second, "log_loss")
    draws = scores.draws[a] - scores.draws[b] if a in scores.draws else None
    return scores.values[a] - scores.values[b], draws


def _summarize(
    replicates: Sequence[tuple[float | None, Floats | None]], confidence: float
) -> dict[str, Any]:
    """Mean and intervals of a value and its draws in each replicate."""
    values = [math.nan if value is None else value for value, _ in replicates]
    draws = [replicate_draws for _, replicate_draws in replicates if replicate_draws is not None]
    mean, replicates_low, replicates_high = estimate_mean(values, confidence)
    mean_draws = np.mean(draws, axis=0) if len(draws) == len(values) else None
    low, high = percentile_interval(mean_draws, confidence)
    return {
        "value": mean,
        "low": low,
        "high": high,
        "replicates_low": replicates_low,
        "replicates_high": replicates_high,
        "values": values,
    }


def _describe_comparison(row: Mapping[str, Any], confidence: float) -> str:
    low, high, n_replicates = row["low"], row["high"], len(row["values"])
    intervals = f"{100 * confidence:g}% interval over held-out subjects {low:+.4f} to {high:+.4f}"
    if n_replicates > 1:
        limits = f"{row['replicates_low']:+.4f} to {row['replicates_high']:+.4f}"
        intervals = f"{intervals}; over replicates {limits}"
    verdict = "lower than" if high < 0 else "higher than" if low > 0 else "not distinguishable from"
    return (
        f"The log loss of {row['first']} is {verdict} that of {row['second']}: "
        f"{row['value']:+.4f} ({intervals}), "
        f"lower in {row['n_lower']} of {n_replicates} replicates."
    )
