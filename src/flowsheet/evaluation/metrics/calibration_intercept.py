"""Calibration in the large."""

from __future__ import annotations

from flowsheet.evaluation.metrics._recalibration import intercept
from flowsheet.evaluation.metrics.base import METRICS, Metric, Sample
from flowsheet.typing import Floats


@METRICS.register("calibration_intercept")
class CalibrationIntercept(Metric):
    """0 is ideal; below 0 the probabilities are too high on average, above 0 too low.

    (Van Calster et al. 2016.)
    """

    name = "calibration_intercept"
    label = "Calibration intercept"
    larger_is_better = None

    def compute(self, sample: Sample) -> Floats:
        """Intercept of the logistic recalibration with the slope fixed at 1."""
        return intercept(sample)
