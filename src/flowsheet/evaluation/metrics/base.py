"""What a metric owes: B weighted samples in, B figures out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import StrEnum
from typing import ClassVar

import numpy as np

from flowsheet.evaluation.metrics._sample import Sample, ScoredRows, ratio
from flowsheet.plugins import Registry
from flowsheet.typing import Floats

__all__ = ["METRICS", "Metric", "Needs", "Sample", "ScoredRows", "ratio"]


class Needs(StrEnum):
    """What a metric must be given besides the truth."""

    probabilities = "probabilities"
    alarms = "alarms"
    """A yes or no for every row, from a threshold chosen on development data."""
    whole_stays = "whole stays"
    """Alarms, and every hourly row of each stay."""
    lead_times = "lead times"
    """Alarms, and when the onset of each stay came."""


class Metric(ABC):
    """One figure of merit. A new metric is one new module in this package:

    ``@METRICS.register("name")`` on a subclass, in the module ``name.py``. One definition serves
    the figure itself and its bootstrap: :meth:`compute` sees B weighted copies of the rows, of which "as
    seen" is one.
    """

    name: ClassVar[str]
    label: ClassVar[str]
    """For people, e.g. in the head of a column."""
    larger_is_better: ClassVar[bool | None]
    """None: the best value, ``ideal``, lies in the middle."""
    ideal: ClassVar[float] = 0.0
    decimals: ClassVar[int] = 3
    """Shown to people."""
    needs: ClassVar[Needs] = Needs.probabilities
    resampled: ClassVar[bool] = True
    """Whether a bootstrap interval means something."""
    compared: ClassVar[bool] = True
    """Whether it is tested in pairs; a metric that is not resampled or has its best in the middle never is."""
    per_stay: ClassVar[bool] = False
    """Whether it also means something with one row a stay."""

    @abstractmethod
    def compute(self, sample: Sample) -> Floats:
        """The figure in each of B samples, shape (B,); NaN where a sample cannot tell."""

    def __call__(self, scored: ScoredRows) -> float:
        """The figure; NaN with fewer than ``scored.minimum_events`` rows of either kind."""
        return (
            float("nan") if scored.reason_not_estimable else float(self.compute(Sample(scored))[0])
        )

    def is_applicable(self, scored: ScoredRows) -> bool:
        """Whether the rows carry what the metric needs."""
        rings = scored.alarm is not None
        given = {
            Needs.probabilities: True,
            Needs.alarms: rings,
            Needs.whole_stays: rings and scored.whole_stays,
            Needs.lead_times: scored.lead is not None,
        }
        return given[self.needs] and (self.per_stay or not scored.per_stay)


METRICS: Registry[Metric] = Registry("metric", "flowsheet.evaluation.metrics")


def alarms(scored: ScoredRows) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """The alarms of rows that have some."""
    if scored.alarm is None:
        raise ValueError("these rows carry no alarms")
    return scored.alarm


def lead_times(scored: ScoredRows) -> Floats:
    """The lead times (N,) of stays that have some."""
    if scored.lead is None:
        raise ValueError("these rows carry no lead times")
    return scored.lead
