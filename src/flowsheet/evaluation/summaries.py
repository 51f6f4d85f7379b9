"""What the figures say, in words."""

from __future__ import annotations

import math
from dataclasses import dataclass

import polars as pl

from flowsheet.evaluation.bootstrap import Difference
from flowsheet.evaluation.metrics import Metric

BETTER, WORSE, SAME, UNKNOWN = "better", "worse", "not distinguishable", "not estimable"

WHERE = {"new_onsets": " among new onsets", "stays": " per stay"}
"""Which rows a sentence speaks of, where not of all."""


@dataclass(frozen=True)
class Comparison:
    """Model a against model b by one metric."""

    a: str
    b: str
    metric: Metric
    found: Difference
    """a minus b."""
    p_holm: float
    alpha: float
    subset: str = "all"
    folds: int = 0
    """Random folds that the difference is the mean of; 0 where it is that of all predictions together."""

    @property
    def verdict(self) -> str:
        """Of a: better, worse, not distinguishable, or not estimable."""
        if math.isnan(self.p_holm):
            return UNKNOWN
        if self.p_holm >= self.alpha:
            return SAME
        return BETTER if (self.found.value > 0) == self.metric.larger_is_better else WORSE

    @property
    def summary(self) -> str:
        """The verdict and its figures."""
        a, b, label, found = (
            self.a,
            self.b,
            self.metric.label + WHERE.get(self.subset, ""),
            self.found,
        )
        mean = f"mean difference over {self.folds} folds" if self.folds else "difference"
        if self.verdict == UNKNOWN:
            return f"{a} and {b} cannot be compared by {label}: there is too little data for an interval."
        figures = f"{mean} {found.value:+.4f} [{found.low:+.4f}, {found.high:+.4f}], corrected {format_p_value(self.p_holm)}"
        if self.verdict == SAME:
            alone = (
                "; alone it would count, among so many comparisons it does not"
                if found.p < self.alpha
                else ""
            )
            return f"{a} and {b} are not distinguishable by {label} at this sample size ({figures}{alone})."
        return f"{a} is {self.verdict} than {b} by {label} ({figures})."


def format_p_value(p: float) -> str:
    """``p = 0.031`` or ``p < 0.001``."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def estimate_parts(number: float, low: float, high: float, decimals: int) -> tuple[str, str]:
    """A figure and its interval as texts; the second is empty where there is none."""
    if math.isnan(number):
        return UNKNOWN, ""
    limits = "" if math.isnan(low) else f"[{low:.{decimals}f}, {high:.{decimals}f}]"
    return f"{number:.{decimals}f}", limits


def format_estimate(number: float, low: float, high: float, decimals: int) -> str:
    """A figure with its interval, where there is one.

    >>> format_estimate(0.81234, 0.8, 0.825, 3)
    '0.812 [0.800, 0.825]'
    >>> format_estimate(float("nan"), float("nan"), float("nan"), 3)
    'not estimable'
    """
    return " ".join(part for part in estimate_parts(number, low, high, decimals) if part)


def headline(leaderboard: pl.DataFrame, pairs: pl.DataFrame, metric: Metric) -> str:
    """Which model is best, by how much, and which ones cannot be told apart from it."""
    board = leaderboard.filter(pl.col("metric") == metric.name, pl.col("subset") == "all")
    if board.is_empty():
        return f"No model can be ranked by {metric.label}: it needs {metric.needs}."
    first = board.row(0, named=True)
    if math.isnan(first["value"]):
        return f"No model can be ranked by {metric.label}: {first['reason']}."
    figure = format_estimate(first["value"], first["low"], first["high"], metric.decimals)
    start = f"{first['model']} ranks first by {metric.label} ({figure})"
    rivals = pairs.filter(
        pl.col("metric") == metric.name,
        pl.col("subset") == "all",
        pl.col("model_a") == first["model"],
    )
    clauses = [
        f"{words} {_listed(names)}"
        for said, words in (
            (BETTER, "it is better than"),
            (SAME, "it is not distinguishable at this sample size from"),
            (UNKNOWN, "there is too little data to compare it with"),
        )
        if (names := rivals.filter(pl.col("verdict") == said)["model_b"].to_list())
    ]
    return "; ".join([start, *clauses]) + "."


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
