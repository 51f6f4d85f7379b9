"""Metrics at an operating point: a fixed alert rate, sensitivity or threshold probability.

One class is a family of metrics. Its members are named after their operating point in percent:
``ppv_at_alert_rate_5`` is the family ``ppv_at_alert_rate`` at 0.05, ``ppv_at_alert_rate_0_5`` at
0.005. ``evaluation.operating_points`` declares which members are computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

import numpy as np

from flowsheet.errors import UsageError
from flowsheet.evaluation.metrics.base import Metric, Sample, safe_divide
from flowsheet.typing import Floats, Ints

ROUNDING = 1e-12
"""A sensitivity counts as reached although rounding leaves it this share too low."""


@dataclass(frozen=True)
class Parameter:
    """The parameter of a family of metrics: a share above 0."""

    name: str
    includes_one: bool = True

    @property
    def with_article(self) -> str:
        """The name in a sentence, e.g. "an alert rate"."""
        return f"{'an' if self.name[0] in 'aeiou' else 'a'} {self.name}"

    @property
    def range(self) -> str:
        """The permitted values in words."""
        return f"above 0 and {'at most' if self.includes_one else 'below'} 1"

    def allows(self, value: float) -> bool:
        """Whether the value is in the range."""
        return 0 < value < 1 or (self.includes_one and value == 1)


ALERT_RATE = Parameter("alert rate")
SENSITIVITY = Parameter("sensitivity")
DAILY_ALERTS = Parameter("number of alerts per patient-day")
THRESHOLD = Parameter("threshold probability", includes_one=False)


class OperatingPointMetric(Metric):
    """A metric at one operating point, named ``<family>_<percent>``."""

    family: ClassVar[str]
    parameter: ClassVar[Parameter]
    label_format: ClassVar[str]
    """The label, with ``{}`` for the operating point, e.g. "PPV at {} alert rate"."""

    def __init__(self, value: float) -> None:
        """The metric at the operating point ``value``, a share.

        Raises:
            UsageError: the value is out of range.
        """
        if not self.parameter.allows(value):
            raise UsageError(
                f"{self.family} cannot be computed at {value:g}: "
                f"{self.parameter.with_article} is {self.parameter.range}",
                todo="write a share, such as 0.05 for 5%",
            )
        percent = to_percent(value)
        self.value = value
        self.name = f"{self.family}_{percent.replace('.', '_')}"
        self.label = self.label_format.format(f"{percent}%")


def to_percent(share: float) -> str:
    """A share in percent, without trailing zeros.

    >>> to_percent(0.05), to_percent(0.005), to_percent(1.0)
    ('5', '0.5', '100')
    """
    percent = format(Decimal(str(share)) * 100, "f")
    return percent.rstrip("0").rstrip(".") if "." in percent else percent


def from_percent(percent: str) -> float:
    """The share of a percentage as it is written in a metric's name.

    >>> from_percent("5"), from_percent("0_5")
    (0.05, 0.005)
    """
    return float(Decimal(percent.replace("_", ".")) / 100)


def count_true_alerts(sample: Sample, rate: float) -> Floats:
    """Rows with the event among the ``rate`` x N rows with the highest probabilities, shape (B,).

    Where the last alert falls into a group of equal probabilities, the alerts of the group are
    drawn at random: the expected number of true alerts is returned.
    """
    counts, n_alerts = sample.threshold_counts, rate * sample.n_rows
    # the thresholds at which, and above which, every row raises an alert are the last ones
    n_whole = (counts.positives <= n_alerts).sum(axis=0)
    next_group = len(counts.positives) - n_whole - 1
    events_above = _pick(counts.true_positives, next_group + 1)
    tied_events = _pick(counts.tied_events, next_group)
    n_tied = tied_events + _pick(counts.tied_non_events, next_group)
    n_above = _pick(counts.positives, next_group) - n_tied
    share_of_group = np.nan_to_num(safe_divide(n_alerts - n_above, n_tied))
    true_alerts = events_above + tied_events * np.clip(share_of_group, 0, 1)
    return np.where(sample.n_rows > 0, true_alerts, np.nan)


def _pick(counts: Floats, position: Ints) -> Floats:
    """The counts (J, B) at one threshold in each sample, shape (B,); 0 beyond the thresholds."""
    size = len(counts)
    if not size:
        return np.zeros(len(position))
    picked = counts[np.clip(position, 0, size - 1), np.arange(len(position))]
    return np.where((position >= 0) & (position < size), picked, 0.0)


@dataclass(frozen=True)
class AlertCounts:
    """Numbers of alerts in B samples, shapes (B,)."""

    n_alerts: Floats
    n_false: Floats


def count_alerts_at_sensitivity(sample: Sample, sensitivity: float) -> AlertCounts:
    """The alerts, highest probabilities first, that find ``sensitivity`` x P of the P events.

    Where the last event lies inside a group of equal probabilities, the expected share of the group
    is counted.
    """
    if not len(sample.scored.ranking.thresholds):
        undefined = np.full(sample.size, np.nan)
        return AlertCounts(undefined, undefined)
    counts, target = sample.threshold_counts, sensitivity * sample.n_positive * (1 - ROUNDING)
    # counts rise towards lower thresholds
    last = np.maximum((counts.true_positives >= target).sum(axis=0) - 1, 0)
    tied_events, true_positives, non_events_above, tied_non_events = (
        _pick(count, last)
        for count in (
            counts.tied_events,
            counts.true_positives,
            counts.non_events_above,
            counts.tied_non_events,
        )
    )
    events_above = true_positives - tied_events
    share_of_group = safe_divide(target - events_above, tied_events)
    n_alerts = events_above + non_events_above + share_of_group * (tied_events + tied_non_events)
    n_false = non_events_above + share_of_group * tied_non_events
    has_events = sample.n_positive > 0
    return AlertCounts(
        np.where(has_events, n_alerts, np.nan), np.where(has_events, n_false, np.nan)
    )
