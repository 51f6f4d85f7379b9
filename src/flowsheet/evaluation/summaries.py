"""Evaluation results in sentences."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flowsheet.cohort.responses.base import SEPSIS_WORDS, Words
from flowsheet.evaluation.bootstrap import Difference
from flowsheet.evaluation.metrics import Metric
from flowsheet.evaluation.subset_names import describe_subset
from flowsheet.evaluation.subsets import ALL

BETTER, WORSE, SAME = "better", "worse", "not distinguishable"
NOT_ESTIMABLE = "not estimable"


@dataclass(frozen=True)
class PairComparison:
    """Model a compared with model b by one metric."""

    a: str
    b: str
    """What people call them."""
    metric: Metric
    difference: Difference
    """a minus b."""
    p_holm: float
    alpha: float
    subset: str = ALL
    n_folds: int = 0
    """Random folds that the difference is the mean of; 0: it is of the pooled predictions."""
    words: Words = SEPSIS_WORDS
    """Of the response."""

    @property
    def verdict(self) -> str:
        """Of a: better, worse, not distinguishable, or not estimable."""
        if math.isnan(self.p_holm):
            return NOT_ESTIMABLE
        if self.p_holm >= self.alpha:
            return SAME
        return BETTER if (self.difference.value > 0) == self.metric.larger_is_better else WORSE

    @property
    def summary(self) -> str:
        """The verdict and its numbers in a sentence."""
        a, b = self.a, self.b
        label = self.metric.label + describe_subset(self.subset, self.words)
        if self.verdict == NOT_ESTIMABLE:
            return f"{a} and {b} cannot be compared by {label}: too few data for an interval."
        if self.verdict == SAME:
            return (
                f"{a} and {b} are not distinguishable by {label} at this sample size "
                f"({self._numbers}{self._uncorrected_note})."
            )
        return f"{a} is {self.verdict} than {b} by {label} ({self._numbers})."

    @property
    def _numbers(self) -> str:
        estimate = f"mean difference over {self.n_folds} folds" if self.n_folds else "difference"
        d = self.difference
        return (
            f"{estimate} {d.value:+.4f} [{d.low:+.4f}, {d.high:+.4f}], "
            f"corrected {format_p_value(self.p_holm)}"
        )

    @property
    def _uncorrected_note(self) -> str:
        is_significant_alone = self.difference.p < self.alpha
        return "; significant without the correction for all pairs" if is_significant_alone else ""


def format_p_value(p: float) -> str:
    """``p = 0.031`` or ``p < 0.001``."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def format_value_and_interval(
    value: float, low: float, high: float, decimals: int
) -> tuple[str, str]:
    """A value and its interval as texts.

    Args:
        value: NaN: not estimable.
        low: lower limit of the interval; NaN: no interval.
        high: upper limit of the interval.
        decimals: number of decimals shown.

    Returns:
        The value, and the interval in brackets or an empty text.
    """
    if math.isnan(value):
        return NOT_ESTIMABLE, ""
    interval = "" if math.isnan(low) else f"[{low:.{decimals}f}, {high:.{decimals}f}]"
    return f"{value:.{decimals}f}", interval


def format_estimate(value: float, low: float, high: float, decimals: int) -> str:
    """A value with its interval, where there is one.

    >>> format_estimate(0.81234, 0.8, 0.825, 3)
    '0.812 [0.800, 0.825]'
    >>> format_estimate(float("nan"), float("nan"), float("nan"), 3)
    'not estimable'

    Args:
        value: NaN: not estimable.
        low: lower limit of the interval; NaN: no interval.
        high: upper limit of the interval.
        decimals: number of decimals shown.
    """
    return " ".join(part for part in format_value_and_interval(value, low, high, decimals) if part)


def join_names(names: list[str]) -> str:
    """Names in a sentence.

    >>> join_names(["LSTM", "RNN", "AR(1)"])
    'LSTM, RNN and AR(1)'
    >>> join_names(["SOFA, recalibrated", "Clock"])
    'SOFA, recalibrated; and Clock'
    """
    if len(names) == 1:
        return names[0]
    if any("," in name for name in names):
        return f"{'; '.join(names[:-1])}; and {names[-1]}"
    return f"{', '.join(names[:-1])} and {names[-1]}"


def complete_titles(models: Sequence[str], titles: Mapping[str, str]) -> dict[str, str]:
    """A title for every model, by which it can be told from the others.

    >>> complete_titles(["lstm", "own"], {"lstm": "LSTM"})
    {'lstm': 'LSTM', 'own': 'own'}
    >>> complete_titles(["lstm", "mine"], {"lstm": "LSTM", "mine": "LSTM"})
    {'lstm': 'LSTM (lstm)', 'mine': 'LSTM (mine)'}
    """
    complete = {model: model for model in models} | dict(titles)
    counts = Counter(complete.values())
    return {
        model: title if counts[title] == 1 else f"{title} ({model})"
        for model, title in complete.items()
    }
