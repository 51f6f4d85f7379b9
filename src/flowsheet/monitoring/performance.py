"""A model's performance on subjects whose outcomes are known."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import polars as pl

from flowsheet.config import FrozenModel
from flowsheet.evaluation.bootstrap import bootstrap, percentile_interval
from flowsheet.evaluation.calibration_bins import resample_calibration
from flowsheet.evaluation.curves import calibration_curve
from flowsheet.evaluation.metrics import Metric, ScoredRows, get_metric
from flowsheet.evaluation.metrics.base import Sample, safe_divide
from flowsheet.typing import Floats

RISK_SCHEMA: dict[str, pl.DataType] = {
    "stay_id": pl.Int64(),
    "subject_id": pl.Int64(),
    "risk": pl.Float64(),
    "y": pl.Int8(),
    "scored": pl.Boolean(),
    "weight": pl.Float64(),
}
"""A row a step: predicted risk, outcome, whether the step is in the task's risk set, and how many
rows it stands for (see ``windows.censoring``)."""

CONFIDENCE = 0.95
RESAMPLES = 500
CURVE_RESAMPLES = 200
MINIMUM_BIN_ROWS = 20
"""Smaller bins of the calibration curve are left out: a reference holds no single patients."""
SEED = 1


class MetricEstimate(FrozenModel):
    """A metric with its bootstrap over subjects; None: not estimable."""

    name: str
    label: str
    value: float | None
    standard_error: float | None = None
    low: float | None = None
    high: float | None = None
    """Bounds of the 95% interval."""


class CalibrationBin(FrozenModel):
    """Rows with similar risks: one point of the calibration curve."""

    predicted: float
    """Mean risk."""
    observed: float
    """Share of rows with the event."""
    low: float | None
    high: float | None
    """Bounds of the 95% interval of ``observed``."""
    rows: int


class Performance(FrozenModel):
    """A model's metrics on some subjects."""

    rows: int
    events: int
    subjects: int
    reason_not_estimable: str | None
    """The reason why discrimination and calibration are not estimable, or None."""
    metrics: tuple[MetricEstimate, ...]
    calibration: tuple[CalibrationBin, ...] = ()
    """By increasing risk; empty if it is not estimable, and in references of earlier releases."""

    def __getitem__(self, name: str) -> MetricEstimate:
        """The metric of that name."""
        return next(metric for metric in self.metrics if metric.name == name)

    def has(self, name: str) -> bool:
        """Whether the metric of that name is estimated."""
        return any(metric.name == name for metric in self.metrics)


class ObservedOverExpected(Metric):
    """Observed over expected events; 1 is calibration in the large."""

    name = "observed_over_expected"
    label = "Observed / expected"
    larger_is_better = None
    ideal = 1.0

    def compute(self, sample: Sample) -> Floats:
        """Rows with the event over the sum of the probabilities."""
        return safe_divide(sample.n_positive, sample.weighted_sum(sample.scored.p))


class Prevalence(Metric):
    """Share of the steps with the event."""

    name = "prevalence"
    label = "Prevalence"
    larger_is_better = None

    def compute(self, sample: Sample) -> Floats:
        """Rows with the event over all rows."""
        return safe_divide(sample.n_positive, sample.n_rows)


def estimate_performance(risks: pl.DataFrame, minimum_events: int) -> Performance:
    """Estimate a model's metrics from risks and outcomes.

    Args:
        risks: rows with the columns of ``RISK_SCHEMA``.
        minimum_events: subjects with the event, and rows without it, that an estimate needs: a
            hundred rows of one patient are evidence about one patient. Observed over expected
            events and prevalence need a single event.
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
        n_subjects=int(subject.max(initial=-1)) + 1,
        minimum_events=minimum_events,
        weight=rows["weight"].to_numpy() if (rows["weight"] != 1).any() else None,
    )
    reason = _reason_not_estimable(scored)
    metrics = list(_monitored_metrics())
    if reason:  # calibration in the large can be judged by a single event
        scored = replace(scored, minimum_events=1)
        metrics = [] if scored.reason_not_estimable else [ObservedOverExpected(), Prevalence()]
    draws = bootstrap({"model": scored}, metrics, RESAMPLES, SEED)
    return Performance(
        rows=rows.height,
        events=scored.n_events,
        subjects=scored.n_subjects,
        reason_not_estimable=reason,
        metrics=tuple(
            _estimate(metric, metric(scored), draws.get(("model", metric.name)))
            for metric in metrics
        ),
        calibration=() if reason else _bin_calibration(scored),
    )


def _bin_calibration(scored: ScoredRows) -> tuple[CalibrationBin, ...]:
    draws = resample_calibration(scored, CURVE_RESAMPLES, SEED)
    curve = calibration_curve(scored, draws, CONFIDENCE)
    bins = curve.filter(pl.col("rows") >= MINIMUM_BIN_ROWS).select(
        pl.col("low", "high").fill_nan(None), "rows", predicted="x", observed="y"
    )
    return tuple(CalibrationBin.model_validate(row) for row in bins.iter_rows(named=True))


def _reason_not_estimable(scored: ScoredRows) -> str | None:
    subjects_with_event = len(np.unique(scored.subject[scored.y == 1]))
    if scored.reason_not_estimable or subjects_with_event >= scored.minimum_events:
        return scored.reason_not_estimable
    return (
        f"{subjects_with_event:,} subjects with the event; "
        f"at least {scored.minimum_events:,} are needed"
    )


def _monitored_metrics() -> Iterator[Metric]:
    for name in ("auroc", "calibration_slope", "calibration_intercept", "ece"):
        yield get_metric(name)
    yield ObservedOverExpected()
    yield Prevalence()


def _estimate(metric: Metric, value: float, draws: Floats | None) -> MetricEstimate:
    """Estimate with standard error and interval from bootstrap ``draws`` (B,)."""
    if not math.isfinite(value):
        return MetricEstimate(name=metric.name, label=metric.label, value=None)
    low, high = percentile_interval(draws, CONFIDENCE)
    if draws is None or math.isnan(low):
        return MetricEstimate(name=metric.name, label=metric.label, value=value)
    return MetricEstimate(
        name=metric.name,
        label=metric.label,
        value=value,
        standard_error=float(np.nanstd(draws, ddof=1)),
        low=low,
        high=high,
    )
