"""What a fixed budget of alarms buys, and how many alarms a fixed sensitivity costs."""

from __future__ import annotations

import numpy as np

from flowsheet.evaluation.metrics.base import Sample, ratio
from flowsheet.typing import Floats

ROUNDING = 1e-12
"""A sensitivity is reached when it is reached but for rounding."""


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
    return np.where(
        sample.positives > 0, ratio(hits_within(sample, rate), rate * sample.rows), np.nan
    )


def alarms_for(sample: Sample, sensitivity: float) -> Floats:
    """Alarms that reach ``sensitivity`` x P of the P rows with the event, highest probabilities
    first, shape (B,).

    Where the last row needed lies inside a group of equal probabilities, the expected share of the
    group is counted.
    """
    if not len(sample.scored.ranking.thresholds):
        return np.full(sample.weights.shape[1], np.nan)
    curve, wanted = sample.curve, sensitivity * sample.positives * (1 - ROUNDING)
    last = np.maximum(
        (curve.tp >= wanted).sum(axis=0) - 1, 0
    )  # counts rise towards lower thresholds
    positive, tp, above, tie = (
        np.take_along_axis(part, last[None], axis=0)[0]
        for part in (curve.positive, curve.tp, curve.above, curve.tie)
    )
    before = tp - positive
    alarms = before + above + ratio(wanted - before, positive) * (positive + tie)
    return np.where(sample.positives > 0, alarms, np.nan)


def ppv_for(sample: Sample, wanted: float) -> Floats:
    """Share of right alarms at the threshold that reaches the sensitivity ``wanted``."""
    return np.where(
        sample.negatives > 0, ratio(wanted * sample.positives, alarms_for(sample, wanted)), np.nan
    )


def alarm_rate_for(sample: Sample, wanted: float) -> Floats:
    """Share of rows that ring at the threshold that reaches the sensitivity ``wanted``."""
    return ratio(alarms_for(sample, wanted), sample.rows)
