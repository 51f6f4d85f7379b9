"""What every metric implements: B weighted samples in, B values out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import StrEnum
from typing import ClassVar

from flowsheet.evaluation.metrics._rows import Sample, ScoredRows, safe_divide, sum_products
from flowsheet.plugins import Registry
from flowsheet.typing import Bools, Floats

__all__ = [
    "METRICS",
    "Metric",
    "RequiredInput",
    "Sample",
    "ScoredRows",
    "safe_divide",
    "sum_products",
]


class RequiredInput(StrEnum):
    """What a metric is computed from, besides the labels."""

    probabilities = "probabilities"
    alerts = "alerts"
    """A yes or no for every row, from a decision threshold chosen on development data."""
    whole_stays = "whole stays"
    """Alerts, and every hourly row of each stay."""
    lead_times = "lead times"
    """Alerts, and the time of each stay's onset."""
    onsets = "first onsets"
    """A task whose response is the first onset."""
    step_hours = "steps of a known length"
    clock = "the clock"
    """The predictions of the model ``clock`` for the same rows."""


class Metric(ABC):
    """A measure of predictive performance. A new metric is one new module in this package:

    ``@METRICS.register("name")`` on a subclass, in the module ``name.py``. The same definition
    serves the value itself and its bootstrap: :meth:`compute` takes B weighted copies of the rows.
    """

    name: str
    label: str
    """For people, e.g. in the head of a column."""
    larger_is_better: ClassVar[bool | None]
    """None: the best value, ``ideal``, lies in the middle."""
    ideal: ClassVar[float] = 0.0
    decimals: ClassVar[int] = 3
    """Shown to people."""
    requires: ClassVar[RequiredInput] = RequiredInput.probabilities
    has_interval: ClassVar[bool] = True
    """Whether a bootstrap interval is meaningful."""
    is_compared: ClassVar[bool] = True
    """Whether pairs of models are tested by it, which also takes an interval and a direction."""
    supports_stays: ClassVar[bool] = False
    """Whether it is also meaningful with one row a stay."""

    @abstractmethod
    def compute(self, sample: Sample) -> Floats:
        """The value in each of B samples, shape (B,); NaN where it is undefined."""

    def compute_once(self, sample: Sample) -> Floats:
        """As :meth:`compute`; the sample keeps it for metrics that are made of this one."""
        return sample.cached(f"value of {self.name}", lambda: self.compute(sample))

    def __call__(self, scored: ScoredRows) -> float:
        """The value; NaN with fewer than ``scored.minimum_events`` rows of either class."""
        if scored.reason_not_estimable:
            return float("nan")
        return float(self.compute(Sample(scored))[0])

    def is_applicable(self, scored: ScoredRows) -> bool:
        """Whether the rows have the inputs that the metric requires."""
        has_alerts = scored.is_alert is not None
        available = {
            RequiredInput.probabilities: True,
            RequiredInput.alerts: has_alerts,
            RequiredInput.whole_stays: has_alerts and scored.has_whole_stays,
            RequiredInput.lead_times: scored.lead_time is not None,
            RequiredInput.onsets: scored.has_first_onsets,
            RequiredInput.step_hours: scored.step_hours is not None,
            RequiredInput.clock: scored.clock is not None,
        }
        return available[self.requires] and (self.supports_stays or not scored.is_per_stay)


METRICS: Registry[Metric] = Registry("metric", "flowsheet.evaluation.metrics")


def get_alerts(scored: ScoredRows) -> Bools:
    """Whether each row raises an alert, shape (N,).

    Raises:
        ValueError: the rows have no alerts.
    """
    if scored.is_alert is None:
        raise ValueError("the rows have no alerts")
    return scored.is_alert


def count_alerts(sample: Sample) -> Floats:
    """Weighted number of rows that raise an alert, shape (B,)."""
    return sample.cached_sum("alerts", lambda: get_alerts(sample.scored))


def count_true_alerts(sample: Sample) -> Floats:
    """Weighted number of rows with the event that raise an alert, shape (B,)."""
    scored = sample.scored
    return sample.cached_sum("true alerts", lambda: get_alerts(scored) & (scored.y == 1))


def get_clock_sample(sample: Sample) -> Sample:
    """The clock's predictions of the same rows with the same weights.

    Raises:
        ValueError: they are not known.
    """
    if sample.of_clock is None:
        raise ValueError("the rows have no predictions of the clock")
    return sample.of_clock


def get_lead_times(scored: ScoredRows) -> Floats:
    """The lead time of each stay in hours, shape (N,).

    Raises:
        ValueError: the rows have no lead times.
    """
    if scored.lead_time is None:
        raise ValueError("the rows have no lead times")
    return scored.lead_time
