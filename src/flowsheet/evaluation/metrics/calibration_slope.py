"""Calibration slope."""

from __future__ import annotations

from flowsheet.evaluation.metrics._recalibration import slope
from flowsheet.evaluation.metrics.base import METRICS, Metric, Sample
from flowsheet.typing import Floats


@METRICS.register("calibration_slope")
class CalibrationSlope(Metric):
    """1 is ideal; below 1 the probabilities are too extreme, above 1 too close to the mean.

    (Van Calster et al. 2016.)
    """

    name = "calibration_slope"
    label = "Calibration slope"
    larger_is_better = None
    ideal = 1.0

    def compute(self, sample: Sample) -> Floats:
        """Slope of the logistic recalibration."""
        return slope(sample)
