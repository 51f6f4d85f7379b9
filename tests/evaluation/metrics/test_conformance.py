"""Every registered metric passes the conformance suite, and the suite finds faulty metrics."""

import numpy as np
import pytest

from flowsheet.evaluation.metrics.auroc import Auroc
from flowsheet.testing.metrics import MetricConformance, toy_rows
from tests.evaluation.metrics.helpers import default_metrics

APPROXIMATE = {"ece", "calibration_slope", "calibration_intercept"}


def _suite(name: str) -> type[MetricConformance]:
    fields = {"name": name, "is_exact": name not in APPROXIMATE}
    return type(f"Test_{name}", (MetricConformance,), fields)


globals().update({f"Test_{metric.name}": _suite(metric.name) for metric in default_metrics()})


class _FirstCopyForAll(Auroc):
    """Ignores the weights."""

    def compute(self, sample):
        value = Auroc()(sample.scored)
        return np.full(sample.size, value)


class _ZeroForOneClass(Auroc):
    """Invents a value where there is none."""

    def __call__(self, scored):
        return float(np.nan_to_num(super().__call__(scored)))


@pytest.mark.parametrize(
    ("cls", "test_name"),
    [
        (_FirstCopyForAll, "test_a_subject_of_weight_w_counts_like_w_subjects"),
        (_ZeroForOneClass, "test_without_both_classes_it_is_not_estimable"),
    ],
)
def test_the_suite_finds_a_faulty_metric(cls, test_name):
    suite = _suite("auroc")()
    with pytest.raises(AssertionError):
        getattr(suite, test_name)(cls(), toy_rows(1))
