"""Alerts per patient-day."""

from __future__ import annotations

from typing import ClassVar

from flowsheet.evaluation.metrics.base import (
    METRICS,
    Metric,
    RequiredInput,
    Sample,
    ScoredRows,
    count_alerts,
    safe_divide,
)
from flowsheet.typing import Floats

HOURS_A_DAY = 24.0


@METRICS.register("alerts_per_patient_day")
class AlertsPerPatientDay(Metric):
    """Rows with an alert, at the decision threshold, per day of the evaluated rows.

    Every row at or above the threshold counts: nothing is silenced after an alert.
    """

    name = "alerts_per_patient_day"
    label = "Alerts per patient-day"
    larger_is_better: ClassVar[bool | None] = False
    is_compared = False
    requires = RequiredInput.step_hours

    def compute(self, sample: Sample) -> Floats:
        """Alerts over rows, times the rows of a day."""
        return safe_divide(count_alerts(sample) * rows_a_day(sample.scored), sample.n_rows)

    def is_applicable(self, scored: ScoredRows) -> bool:
        """Where there are alerts and the length of a step is known."""
        return super().is_applicable(scored) and scored.is_alert is not None


def rows_a_day(scored: ScoredRows) -> float:
    """How many rows a patient has in a day.

    Raises:
        ValueError: the length of a step is not known.
    """
    if scored.step_hours is None:
        raise ValueError("the rows have steps of an unknown length")
    return HOURS_A_DAY / scored.step_hours
