"""Incident/dynamic AUROC of onsets."""

from __future__ import annotations

import numpy as np

from flowsheet.evaluation.metrics._by_step import count_step_pairs
from flowsheet.evaluation.metrics.base import (
    METRICS,
    Metric,
    RequiredInput,
    Sample,
    ScoredRows,
    safe_divide,
)
from flowsheet.typing import Bools, Floats


@METRICS.register("auroc_incident")
class AurocIncident(Metric):
    """Concordance of first onsets: each stay's onset against the stays that are still at risk.

    Heagerty and Zheng 2005 (doi:10.1111/j.0006-341X.2005.030814.x): the incident cases of a step
    are the stays whose onset enters the target window at it, the dynamic controls those without an
    onset in it. The steps' AUROCs are weighted by 2 f(t) S(t), with the Kaplan-Meier estimate of
    the time to onset, so that stays with many rows before their onset count once.
    """

    name = "auroc_incident"
    label = "Incident/dynamic AUROC"
    larger_is_better = True
    requires = RequiredInput.onsets

    def compute(self, sample: Sample) -> Floats:
        """The weighted mean of the AUROC of each step."""
        scored = sample.scored

        def choose() -> tuple[Bools, Bools]:
            return find_first_positives(scored), scored.y == 0

        pairs = count_step_pairs(sample, choose, "ranking of onsets")
        at_risk = pairs.cases + pairs.controls
        hazard = np.nan_to_num(safe_divide(pairs.cases, at_risk))
        survival = np.cumprod(1 - hazard, axis=0)
        before = np.concatenate([np.ones((1, sample.size)), survival[:-1]])
        density = (before - survival) if len(survival) else survival
        weight = np.where(pairs.pairs > 0, density * survival, 0.0)
        auroc = np.nan_to_num(safe_divide(pairs.concordant, pairs.pairs))
        return safe_divide((weight * auroc).sum(axis=0), weight.sum(axis=0))


def find_first_positives(scored: ScoredRows) -> Bools:
    """The first row with y = 1 of each stay, shape (N,)."""
    first = np.full(int(scored.stay.max(initial=-1)) + 1, np.inf)
    is_positive = scored.y == 1
    np.minimum.at(first, scored.stay[is_positive], scored.step[is_positive])
    return np.asarray(is_positive & (scored.step == first[scored.stay]))
