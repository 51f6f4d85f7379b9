"""PhysioNet 2019's normalised utility."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flowsheet.evaluation.metrics.base import (
    METRICS,
    Metric,
    Needs,
    Sample,
    ScoredRows,
    alarms,
    ratio,
)
from flowsheet.typing import Bools, Floats

EARLY, OPTIMAL, LATE = -12.0, -6.0, 3.0
"""Hours from onset: the first that earns, the best one, the last one."""
HIT, MISS, FALSE_ALARM = 1.0, -2.0, -0.05


@METRICS.register("normalised_utility")
class NormalisedUtility(Metric):
    """What alarms earn for their timing: 1 is the best that could be done, 0 is silence.

    Reyna et al. 2020, with the parameters of
    https://github.com/physionetchallenges/evaluation-2019. The label turns positive six hours
    before onset, so that onset is six hours after the first positive row.
    """

    name = "normalised_utility"
    label = "Normalised utility"
    larger_is_better = True
    needs = Needs.whole_stays

    def compute(self, sample: Sample) -> Floats:
        """Between silence (0) and the best alarms (1)."""
        worth = sample.scored.cached("utility", lambda: RowUtility.from_rows(sample.scored))
        silent = sample.total(worth.silent)
        observed = sample.total(np.where(alarms(sample.scored), worth.alarm, worth.silent))
        best = sample.total(np.where(worth.best, worth.alarm, worth.silent))
        return ratio(observed - silent, best - silent)


@dataclass(frozen=True)
class RowUtility:
    """What an alarm, or none, is worth at each row; shapes (N,)."""

    alarm: Floats
    silent: Floats
    best: Bools  # whether the best alarms ring here

    @classmethod
    def from_rows(cls, scored: ScoredRows) -> RowUtility:
        """From the steps and labels of whole stays with hourly rows."""
        hours = hours_from_onset(scored)
        septic = np.isfinite(hours)
        hours = np.where(septic, hours, 0.0)
        ahead, counts = hours <= OPTIMAL, hours <= LATE
        rising = np.maximum(HIT * (hours - EARLY) / (OPTIMAL - EARLY), FALSE_ALARM)
        falling = HIT * (LATE - hours) / (LATE - OPTIMAL)
        missing = np.where(ahead, 0.0, MISS * (hours - OPTIMAL) / (LATE - OPTIMAL))
        return cls(
            alarm=np.where(septic, np.where(ahead, rising, falling) * counts, FALSE_ALARM),
            silent=np.where(septic, missing * counts, 0.0),
            best=septic & (hours >= EARLY) & counts,
        )


def hours_from_onset(scored: ScoredRows) -> Floats:
    """Hours of each row after its stay's onset (before: negative); infinite in stays without one."""
    first = np.full(int(scored.stay.max(initial=-1)) + 1, np.inf)
    positive = scored.y == 1
    np.minimum.at(first, scored.stay[positive], scored.step[positive])
    onset = first[scored.stay] - OPTIMAL
    return np.where(np.isfinite(onset), scored.step - onset, np.inf)
