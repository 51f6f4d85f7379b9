"""What a fixed budget of alarms buys."""

from __future__ import annotations

import numpy as np

from flowsheet.evaluation.metrics.base import Floats, Sample, ratio


def hits_within(sample: Sample, rate: float) -> Floats:
    """Rows with the event among the ``rate`` x N rows with the highest probabilities, shape (B,).

    Where the budget ends inside a group of equal probabilities, the group is drawn from at random:
    the expected number of hits is taken.
    """
    curve, budget = sample.curve, rate * sample.rows
    before = curve.tp - curve.positive + curve.above
    reached = np.nan_to_num(ratio(budget - before, curve.positive + curve.tie))
    hits: Floats = (curve.positive * np.clip(reached, 0, 1)).sum(axis=0)
    return np.where(sample.rows > 0, hits, np.nan)


def sensitivity(sample: Sample, rate: float) -> Floats:
    """Share of the rows with the event that the budget reaches."""
    return ratio(hits_within(sample, rate), sample.positives)


def ppv(sample: Sample, rate: float) -> Floats:
    """Share of the budget's alarms that are right."""
    return np.where(sample.positives > 0, ratio(hits_within(sample, rate), rate * sample.rows), np.nan)
