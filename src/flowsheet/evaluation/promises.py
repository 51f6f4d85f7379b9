"""Tests and bounds of what alerts promise: a ratio of two sums over subjects.

A sensitivity is found onsets over onsets, a PPV right alerts over alerts, a rate alerts over
patient-days. Alerts of a stay, and stays of a subject, depend on each other, so that a subject
is the unit. Two tests are made of a ratio, and the worse one counts:

- an exact one that takes all alerts (or onsets) of a subject as one: for a share that of Clopper
  and Pearson (1934, doi:10.1093/biomet/26.4.404) with the number of subjects, for a rate that of
  Poisson counts of the subjects with an alert;
- where a subject counts more than once: Student's test of numerator - target x denominator over
  subjects, with Hall's correction for skewness (1992, doi:10.1111/j.2517-6161.1992.tb01872.x). A
  few subjects with most of the alerts would deceive the uncorrected one.

Where no subject counts more than once, a share has the interval of Clopper and Pearson.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from flowsheet.config import ThresholdBy
from flowsheet.evaluation.alert_counts import AlertCounts
from flowsheet.typing import Floats

SHARE_INFLATION, RATE_INFLATION = 1.1, 1.35
"""Factors of the standard errors of sums over subjects. Of budgets of alerts that were promised at
95% to simulated wards of 150 subjects, a few of whom have most of the alerts, 94% were kept without
it (``benchmarks/alert_promises.py``); the exact test of a share is cautious enough without it."""
_BISECTIONS = 40
_MAX_RATE = 1e6


@dataclass(frozen=True)
class Ratio:
    """A sum over subjects divided by another."""

    numerator: Floats  # (S,)
    denominator: Floats  # (S,)
    is_share: bool
    """The numerator counts some of what the denominator counts."""

    @classmethod
    def from_counts(cls, kind: ThresholdBy, counts: AlertCounts) -> Ratio:
        """What a policy of this kind promises."""
        if kind is ThresholdBy.alerts_per_day:
            return cls(counts.alerts, counts.days, is_share=False)
        if kind is ThresholdBy.ppv:
            return cls(counts.right_alerts, counts.judged_alerts, is_share=True)
        return cls(counts.found, counts.onsets, is_share=True)

    @property
    def n_subjects(self) -> int:
        """Subjects that it rests on."""
        return int(np.count_nonzero(self.denominator))

    @property
    def value(self) -> float:
        """NaN where it is not defined, such as the PPV of no alert."""
        total = float(self.denominator.sum())
        return float(self.numerator.sum()) / total if total > 0 else math.nan

    def p_value(self, target: float, *, is_above: bool) -> float:
        """Of the hypothesis that the true ratio is not above (or not below) the target."""
        is_counted = self.denominator > 0
        if not is_counted.any():
            return 1.0
        numerator, denominator = self.numerator[is_counted], self.denominator[is_counted]
        if self.is_share:
            p = _p_share(len(denominator), self.value, target, is_above=is_above)
            counts_once = bool((denominator == 1).all())
        else:
            p = _p_rate(numerator, denominator, target, is_above=is_above)
            counts_once = bool((numerator <= 1).all())
        if counts_once:
            return p
        difference = numerator - target * denominator
        inflation = SHARE_INFLATION if self.is_share else RATE_INFLATION
        return max(p, _p_mean(difference if is_above else -difference, inflation))

    def bound(self, alpha: float, *, is_lower: bool) -> float:
        """The one-sided bound at 1 - alpha: targets beyond it are rejected.

        NaN: not defined, or no rate is rejected, as where one of three subjects has all alerts.
        """
        value = self.value
        if math.isnan(value):
            return math.nan
        if is_lower:
            return _bisect(lambda t: self.p_value(t, is_above=True) <= alpha, 0.0, value)
        top = 1.0 if self.is_share else max(value, 1e-9)
        while not self.is_share and top < _MAX_RATE and not self._is_below(top, alpha):
            top *= 2
        if top >= _MAX_RATE:
            return math.nan
        return _bisect(lambda t: self._is_below(t, alpha), top, value)

    def _is_below(self, target: float, alpha: float) -> bool:
        return self.p_value(target, is_above=False) <= alpha


def _bisect(is_rejected: Callable[[float], bool], rejected: float, value: float) -> float:
    """Where targets between ``rejected`` and the value begin not to be rejected."""
    accepted = value
    for _ in range(_BISECTIONS):
        middle = (rejected + accepted) / 2
        if is_rejected(middle):
            rejected = middle
        else:
            accepted = middle
    return (rejected + accepted) / 2


def _p_share(n: int, share: float, target: float, *, is_above: bool) -> float:
    """Clopper and Pearson's, continued to shares between the counts.

    Args:
        n: independent trials.
        share: of them that succeeded.
        target: probability of the hypothesis.
        is_above: whether the alternative is a larger one.
    """
    from scipy.special import betainc

    target = min(max(target, 0.0), 1.0)
    if not is_above:
        share, target = 1 - share, 1 - target
    successes = n * share
    if successes <= 0:
        return 1.0
    return float(betainc(successes, n - successes + 1, target))


def _p_rate(numerator: Floats, denominator: Floats, target: float, *, is_above: bool) -> float:
    """Poisson's, of the subjects with an alert, each with as many alerts as they have on average.

    Args:
        numerator: alerts of each subject.
        denominator: patient-days.
        target: alerts per patient-day of the hypothesis.
        is_above: whether the alternative is a larger rate.
    """
    from scipy.special import gammainc, gammaincc

    with_alert = int(np.count_nonzero(numerator))
    per_subject = max(1.0, float(numerator.sum()) / with_alert) if with_alert else 1.0
    expected = target * float(denominator.sum()) / per_subject
    if is_above:
        return float(gammainc(with_alert, expected)) if with_alert else 1.0
    return float(gammaincc(with_alert + 1, expected))


def _p_mean(values: Floats, inflation: float) -> float:
    """Of the hypothesis that the mean is at most 0: Student's, corrected for skewness (Hall).

    ``inflation`` is the factor of the standard error.
    """
    from scipy.special import stdtr

    n = len(values)
    spread = float(values.std(ddof=1)) if n > 1 else 0.0
    mean = float(values.mean())
    if n < 2:
        return 1.0
    if spread == 0:
        return 0.0 if mean > 0 else 1.0
    skewness = float(((values - mean) ** 3).mean()) / spread**3
    t = math.sqrt(n) * mean / (spread * inflation)
    correction = skewness * (2 * t**2 + 1) / (6 * math.sqrt(n))
    corrected = t + correction + skewness**2 * t**3 / (27 * n)
    return float(stdtr(n - 1, -corrected))


@dataclass(frozen=True)
class Proven:
    """The last hypothesis of a sequence that was rejected."""

    position: int
    level: float
    """At which it was tested."""


def find_last_proven(
    p_value: Callable[[int], float], starts: Sequence[int], n: int, alpha: float
) -> Proven | None:
    """Fixed-sequence testing: the last of n ordered hypotheses that is rejected; None: none is.

    From each start on the hypotheses are tested one after the other, at an equal part of ``alpha``,
    until one is not rejected: the probability of any wrong rejection is at most ``alpha``
    (Angelopoulos et al. 2021, Learn then Test, arXiv:2110.01052, section 2.3).

    Args:
        p_value: of the hypothesis at a position.
        starts: positions.
        n: the number of hypotheses.
        alpha: the error over all of them.
    """
    level = alpha / len(starts)
    last = None
    for start in sorted(starts):
        if last is not None and start <= last:
            continue  # it was rejected already, and so was all that follows it
        position = start
        while position < n and p_value(position) <= level:
            last = position
            position += 1
    return None if last is None else Proven(last, level)
