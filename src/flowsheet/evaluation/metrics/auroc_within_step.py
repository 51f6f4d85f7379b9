"""AUROC within the same time since admission."""

from __future__ import annotations

from flowsheet.evaluation.metrics._by_step import count_step_pairs
from flowsheet.evaluation.metrics.base import METRICS, Metric, Sample, safe_divide
from flowsheet.typing import Floats


@METRICS.register("auroc_within_step")
class AurocWithinStep(Metric):
    """Probability that a row with the event ranks above one without at the same step.

    All pairs of rows of the same step count alike, ties half: the AUROC stratified by step
    (Janes and Pepe 2009, doi:10.1093/biomet/asp002). A clock has 0.5: it is what a model tells of
    patients who have stayed equally long.
    """

    name = "auroc_within_step"
    label = "AUROC within step"
    larger_is_better = True

    def compute(self, sample: Sample) -> Floats:
        """Concordant pairs over all pairs within steps."""
        y = sample.scored.y
        pairs = count_step_pairs(sample, lambda: (y == 1, y != 1), "ranking within steps")
        return safe_divide(pairs.concordant.sum(axis=0), pairs.pairs.sum(axis=0))
