"""F-measure of the alerts."""

from __future__ import annotations

import numpy as np

from flowsheet.evaluation.metrics.base import (
    METRICS,
    Metric,
    RequiredInput,
    Sample,
    count_alerts,
    count_true_alerts,
)
from flowsheet.typing import Floats


@METRICS.register("f_measure")
class FMeasure(Metric):
    """Harmonic mean of sensitivity and PPV; 1 where there is neither an event nor an alert."""

    name = "f_measure"
    label = "F-measure"
    supports_stays = True
    larger_is_better = True
    requires = RequiredInput.alerts

    def compute(self, sample: Sample) -> Floats:
        """2 TP / (2 TP + FP + FN)."""
        true_alerts, alerts = count_true_alerts(sample), count_alerts(sample)
        denominator = alerts + sample.n_positive
        perfect = np.ones_like(true_alerts)
        return np.divide(2 * true_alerts, denominator, out=perfect, where=denominator > 0)
