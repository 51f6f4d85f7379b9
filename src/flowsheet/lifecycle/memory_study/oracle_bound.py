"""How close every model comes to the law itself, and in which order: over subjects and over replicates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from flowsheet.evaluation.bootstrap import bootstrap, percentile_interval
from flowsheet.evaluation.metrics import get_metric
from flowsheet.evaluation.metrics.base import ScoredRows
from flowsheet.typing import Floats
from flowsheet.windows.sequences import Sequences

LAW = "the law"
"""The name under which the oracle stands among the models."""
METRIC_NAMES = ("log_loss", "auroc", "auprc", "brier")
SHARE = "share"
"""(LL(baseline) - LL(model)) / (LL(baseline) - LL(law)), LL the mean log loss."""


@dataclass(frozen=True)
class Judged:
    """Figures of one replicate's held-out stays: {(model, metric): value}, and the same in B resamples of subjects."""

    figures: dict[tuple[str, str], float]
    draws: dict[tuple[str, str], Floats]


def judge(
    sequences: Sequences,
    predictions: Mapping[str, Floats],
    law: Floats,
    baseline: str,
    *,
    resamples: int,
    seed: int,
) -> Judged:
    """Every model's figures beside the law's, on the scored rows; ``predictions`` and ``law`` have shape (N,)."""
    metrics = [get_metric(name) for name in METRIC_NAMES]
    scored = {name: _scored(sequences, p) for name, p in {**predictions, LAW: law}.items()}
    figures = {
        (name, metric.name): metric(rows) for name, rows in scored.items() for metric in metrics
    }
    draws = bootstrap(scored, metrics, resamples, seed)
    for name in scored:
        figures[name, SHARE] = float(
            _share(*(np.array(figures[m, "log_loss"]) for m in (baseline, name, LAW)))
        )
        if draws:
            draws[name, SHARE] = _share(*(draws[m, "log_loss"] for m in (baseline, name, LAW)))
    return Judged(figures, draws)


def _share(baseline: Floats, model: Floats, law: Floats) -> Floats:
    return np.asarray((baseline - model) / (baseline - law))


def _scored(sequences: Sequences, p: Floats) -> ScoredRows:
    rows, stay = np.asarray(sequences.scored), sequences.row_stay
    subjects, number = np.unique(sequences.subject_id, return_inverse=True)
    return ScoredRows(
        y=np.asarray(sequences.y[rows]),
        p=np.asarray(p[rows], np.float64),
        subject=number[stay[rows]],
        stay=stay[rows],
        step=np.asarray(sequences.step[rows], np.int64),
        n_subjects=len(subjects),
    )


def over_replicates(
    values: Sequence[float] | Floats, confidence: float
) -> tuple[float, float, float]:
    """Mean, and Student's interval for the mean of independent replicates; NaN limits with fewer
    than two.

    >>> tuple(round(v, 3) for v in over_replicates([1.0, 2.0, 3.0], 0.95))
    (2.0, -0.484, 4.484)
    """
    from scipy.special import stdtrit

    told = np.asarray(values, np.float64)
    n, mean = len(told), float(told.mean())
    if n < 2:
        return mean, math.nan, math.nan
    reach = float(stdtrit(n - 1, 0.5 + confidence / 2)) * float(told.std(ddof=1)) / math.sqrt(n)
    return mean, mean - reach, mean + reach


def figures(rounds: Sequence[Judged], confidence: float) -> pl.DataFrame:
    """One line a model and metric, models by log loss, the law first.

    Columns model, metric, value (mean over replicates), low and high (by subjects: resampled within
    each replicate, then averaged), replicates_low and replicates_high (Student's over replicates),
    and values (of each replicate).
    """
    models = sorted(
        {m for m, _ in rounds[0].figures},
        key=lambda m: np.mean([r.figures[m, "log_loss"] for r in rounds]),
    )
    lines = [
        {
            "model": model,
            "metric": metric,
            **_summary([(r.figures.get(key), r.draws.get(key)) for r in rounds], confidence),
        }
        for model in models
        for metric in (*METRIC_NAMES, SHARE)
        for key in [(model, metric)]
    ]
    return pl.DataFrame(lines)


def orders(
    rounds: Sequence[Judged], pairs: Sequence[tuple[str, str]], confidence: float
) -> pl.DataFrame:
    """The log loss of the first of each pair less that of the second, with both intervals as in
    :func:`figures`.

    Pairs of which one model is not there are left out. ``below`` counts the replicates in which the
    first is lower, ``sentence`` says it in words.
    """
    known = {model for model, _ in rounds[0].figures}
    lines = []
    for first, second in pairs:
        if {first, second} <= known:
            differences = [_difference(r, first, second) for r in rounds]
            summary = _summary(differences, confidence)
            below = sum(value < 0 for value in summary["values"])
            line = {"first": first, "second": second, **summary, "below": below}
            lines.append({**line, "sentence": _sentence(line, confidence)})
    return pl.DataFrame(lines, schema=_ORDERS)


_ORDERS = {
    "first": pl.String(),
    "second": pl.String(),
    **dict.fromkeys(("value", "low", "high", "replicates_low", "replicates_high"), pl.Float64()),
    "values": pl.List(pl.Float64()),
    "below": pl.Int64(),
    "sentence": pl.String(),
}


def _difference(judged: Judged, first: str, second: str) -> tuple[float, Floats | None]:
    a, b = (first, "log_loss"), (second, "log_loss")
    drawn = judged.draws[a] - judged.draws[b] if a in judged.draws else None
    return judged.figures[a] - judged.figures[b], drawn


def _summary(
    replicates: Sequence[tuple[float | None, Floats | None]], confidence: float
) -> dict[str, Any]:
    values = [math.nan if value is None else value for value, _ in replicates]
    draws = [drawn for _, drawn in replicates if drawn is not None]
    mean, low, high = over_replicates(values, confidence)
    by_subject = percentile_interval(
        np.mean(draws, axis=0) if len(draws) == len(values) else None, confidence
    )
    return {
        "value": mean,
        "low": by_subject[0],
        "high": by_subject[1],
        "replicates_low": low,
        "replicates_high": high,
        "values": values,
    }


def _sentence(line: Mapping[str, Any], confidence: float) -> str:
    value, low, high, values = (line[name] for name in ("value", "low", "high", "values"))
    within = f"{100 * confidence:g}% interval over held-out subjects {low:+.4f} to {high:+.4f}"
    between = ""
    if len(values) > 1:
        between = (
            f"; over replicates {line['replicates_low']:+.4f} to {line['replicates_high']:+.4f}"
        )
    verdict = "lower than" if high < 0 else "higher than" if low > 0 else "not distinguishable from"
    return (
        f"The log loss of {line['first']} is {verdict} that of {line['second']}: {value:+.4f} ({within}{between}), "
        f"lower in {line['below']} of {len(values)} replicates."
    )
