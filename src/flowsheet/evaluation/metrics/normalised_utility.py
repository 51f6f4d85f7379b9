"""The normalised utility of the PhysioNet Challenge 2019."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flowsheet.evaluation.metrics.base import (
    METRICS,
    Metric,
    RequiredInput,
    Sample,
    ScoredRows,
    get_alerts,
    safe_divide,
)
from flowsheet.typing import Bools, Floats

EARLIEST, OPTIMAL, LATEST = -12.0, -6.0, 3.0
"""Hours from onset between which a true alert has a positive utility, and where it is highest."""
TRUE_ALERT, MISSED_ALERT, FALSE_ALERT = 1.0, -2.0, -0.05
"""The largest utilities and penalties of a row."""


@METRICS.register("normalised_utility")
class NormalisedUtility(Metric):
    """Utility of the alerts by their time before onset: 1 is the best possible, 0 is no alerts.

    Reyna et al. 2020, with the parameters of
    https://github.com/physionetchallenges/evaluation-2019. The label turns positive six hours
    before onset, so that onset is six hours after the first positive row.
    """

    name = "normalised_utility"
    label = "Normalised utility"
    larger_is_better = True
    requires = RequiredInput.whole_stays

    def compute(self, sample: Sample) -> Floats:
        """(Observed - no alerts) / (best - no alerts)."""
        scored = sample.scored
        utility = scored.cached("utility", lambda: RowUtility.from_rows(scored))

        def choose(alerts: Bools) -> Floats:
            return np.where(alerts, utility.alert, utility.silent)

        silent = sample.cached_sum("utility of no alerts", lambda: utility.silent)
        observed = sample.cached_sum("utility of the alerts", lambda: choose(get_alerts(scored)))
        best = sample.cached_sum("best utility", lambda: choose(utility.is_best))
        return safe_divide(observed - silent, best - silent)


@dataclass(frozen=True)
class RowUtility:
    """The utility of an alert, and of no alert, at each row; shapes (N,)."""

    alert: Floats
    silent: Floats
    is_best: Bools  # whether the best possible predictions raise an alert here

    @classmethod
    def from_rows(cls, scored: ScoredRows) -> RowUtility:
        """The utilities of whole stays with hourly rows."""
        hours = hours_from_onset(scored)
        is_septic = np.isfinite(hours)
        hours = np.where(is_septic, hours, 0.0)
        is_early, counts = hours <= OPTIMAL, hours <= LATEST
        rising = np.maximum(TRUE_ALERT * (hours - EARLIEST) / (OPTIMAL - EARLIEST), FALSE_ALERT)
        falling = TRUE_ALERT * (LATEST - hours) / (LATEST - OPTIMAL)
        missed = np.where(is_early, 0.0, MISSED_ALERT * (hours - OPTIMAL) / (LATEST - OPTIMAL))
        septic_alert = np.where(is_early, rising, falling) * counts
        return cls(
            alert=np.where(is_septic, septic_alert, FALSE_ALERT),
            silent=np.where(is_septic, missed * counts, 0.0),
            is_best=is_septic & (hours >= EARLIEST) & counts,
        )


def hours_from_onset(scored: ScoredRows) -> Floats:
    """Hours from its stay's onset to each row (before onset: negative); infinite without onset."""
    first_positive = np.full(int(scored.stay.max(initial=-1)) + 1, np.inf)
    is_positive = scored.y == 1
    np.minimum.at(first_positive, scored.stay[is_positive], scored.step[is_positive])
    onset = first_positive[scored.stay] - OPTIMAL
    return np.where(np.isfinite(onset), scored.step - onset, np.inf)
