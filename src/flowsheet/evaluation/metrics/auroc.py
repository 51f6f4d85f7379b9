"""Area under the receiver operating characteristic."""

from __future__ import annotations

from flowsheet.evaluation.metrics.base import METRICS, Metric, Sample, ratio
from flowsheet.typing import Floats


@METRICS.register("auroc")
class Auroc(Metric):
    """How often a row with the event is ranked above one without; ties count half (Hanley and
    McNeil 1982).

    Equal to scikit-learn's ``roc_auc_score``. The PhysioNet 2019 scorer agrees, ties included,
    unless a probability is exactly 0 or exactly 1: it then leaves out the first or last piece of
    the curve.
    """

    name = "auroc"
    label = "AUROC"
    per_stay = True
    larger_is_better = True

    def compute(self, sample: Sample) -> Floats:
        """Rank sum over the product of the counts."""
        curve = sample.curve
        lost = curve.above + curve.tie / 2
        won = sample.positives * sample.negatives - (curve.positive * lost).sum(axis=0)
        return ratio(won, sample.positives * sample.negatives)
