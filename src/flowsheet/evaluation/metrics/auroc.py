"""Area under the receiver operating characteristic."""

from __future__ import annotations

from flowsheet.evaluation.metrics.base import METRICS, Metric, Sample, safe_divide, sum_products
from flowsheet.typing import Floats


@METRICS.register("auroc")
class Auroc(Metric):
    """Probability that a row with the event ranks above one without; ties count half.

    (Hanley and McNeil 1982.) Equal to scikit-learn's ``roc_auc_score``. The PhysioNet 2019 scorer
    agrees, ties included, unless a probability is exactly 0 or exactly 1: it then leaves out the
    first or last piece of the curve.
    """

    name = "auroc"
    label = "AUROC"
    supports_stays = True
    larger_is_better = True

    def compute(self, sample: Sample) -> Floats:
        """Concordant pairs over all pairs of a row with and a row without the event."""
        counts = sample.threshold_counts
        n_pairs = sample.n_positive * sample.n_negative
        discordant = sum_products(counts.tied_events, counts.non_events_above)
        tied = sum_products(counts.tied_events, counts.tied_non_events)
        concordant = n_pairs - discordant - tied / 2
        return safe_divide(concordant, n_pairs)
