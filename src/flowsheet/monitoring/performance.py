"""How good a model's risks were, once it is known what came of the patients."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import polars as pl

from flowsheet.config import FrozenModel
from flowsheet.evaluation.bootstrap import bootstrap, percentile_interval
from flowsheet.evaluation.metrics.base import METRICS, Metric, Needs, Sample, ScoredRows, ratio
from flowsheet.typing import Floats

RISKS: dict[str, pl.DataType] = {
    "stay_id": pl.Int64(),
    "subject_id": pl.Int64(),
    "risk": pl.Float64(),
    "y": pl.Int8(),
    "scored": pl.Boolean(),
}
"""A line a step: what the model said, what came, and whether that counts."""

CONFIDENCE = 0.95
RESAMPLES = 500
SEED = 1


class Figure(FrozenModel):
    """A figure of merit with its bootstrap over subjects; None: not estimable."""

    name: str
    label: str
    value: float | None
    error: float | None = None
    """Standard error."""
    low: float | None = None
    high: float | None = None
    """Bounds of the 95% interval."""


class Performance(FrozenModel):
    """A model's figures on some subjects."""

    rows: int
    events: int
    subjects: int
    why_not: str | None
    """Why nothing can be said, or None."""
    figures: tuple[Figure, ...]

    def __getitem__(self, name: str) -> Figure:
        """The figure of that name."""
        return next(figure for figure in self.figures if figure.name == name)


class ObservedOverExpected(Metric):
    """Events that came over events that were foretold; 1 is calibration in the large."""

    name = "observed_over_expected"
    label = "Observed / expected"
    larger_is_better = None
    ideal = 1.0
    needs = Needs.probabilities

    def compute(self, sample: Sample) -> Floats:
        """The ratio of the two sums."""
        return ratio(sample.positives, sample.total(sample.scored.p))


class Prevalence(Metric):
    """The share of the steps with the event."""

    name = "prevalence"
    label = "Prevalence"
    larger_is_better = None
    needs = Needs.probabilities

    def compute(self, sample: Sample) -> Floats:
        """Rows with the event over rows."""
        return ratio(sample.positives, sample.rows)


def performance(risks: pl.DataFrame, minimum_events: int) -> Performance:
    """The figures of risks with the columns of ``RISKS``.

    With fewer than ``minimum_events`` subjects with the event, or rows without it, there are none,
    and ``why_not`` says so: a hundred rows of one patient tell about one patient.
    """
    rows = risks.filter("scored").sort("stay_id", maintain_order=True)
    subject = np.unique(rows["subject_id"].to_numpy(), return_inverse=True)[1]
    stay = np.unique(rows["stay_id"].to_numpy(), return_inverse=True)[1]
    scored = ScoredRows(
        y=rows["y"].to_numpy(),
        p=rows["risk"].to_numpy(),
        subject=subject,
        stay=stay,
        step=np.ones(rows.height, np.int64),
        subjects=int(subject.max(initial=-1)) + 1,
        minimum_events=minimum_events,
    )
    why_not = _why_not(scored)
    metrics: list[Metric] = (
        [] if why_not else [*_registered(), ObservedOverExpected(), Prevalence()]
    )
    draws = bootstrap({"model": scored}, metrics, RESAMPLES, SEED)
    return Performance(
        rows=rows.height,
        events=scored.events,
        subjects=scored.subjects,
        why_not=why_not,
        figures=tuple(
            _figure(metric, metric(scored), draws.get(("model", metric.name))) for metric in metrics
        ),
    )


def _why_not(scored: ScoredRows) -> str | None:
    struck = len(np.unique(scored.subject[scored.y == 1]))
    if scored.reason_not_estimable or struck >= scored.minimum_events:
        return scored.reason_not_estimable
    return f"{struck:,} subjects with the event; at least {scored.minimum_events:,} are needed"


def _registered() -> Iterator[Metric]:
    return (
        METRICS.get(name)()
        for name in ("auroc", "calibration_slope", "calibration_intercept", "ece")
    )


def _figure(metric: Metric, value: float, draws: Floats | None) -> Figure:
    if not math.isfinite(value):
        return Figure(name=metric.name, label=metric.label, value=None)
    low, high = percentile_interval(draws, CONFIDENCE)
    if draws is None or math.isnan(low):
        return Figure(name=metric.name, label=metric.label, value=value)
    error = float(np.nanstd(draws, ddof=1))
    return Figure(
        name=metric.name, label=metric.label, value=value, error=error, low=low, high=high
    )
