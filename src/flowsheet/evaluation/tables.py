"""The leaderboard and the pairs, as frames."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass

import polars as pl

from flowsheet.config import EvaluationConfig
from flowsheet.evaluation.bootstrap import Difference, bootstrap, difference, holm, interval
from flowsheet.evaluation.metrics import Metric, Scored
from flowsheet.evaluation.metrics.base import Floats
from flowsheet.evaluation.scopes import ALL, Scope
from flowsheet.evaluation.sentences import Comparison

LEADERBOARD: dict[str, pl.DataType] = {
    "scope": pl.String(),  # all, transitions_in, or "<grouping>: <value>"
    "model": pl.String(),
    "metric": pl.String(),
    "value": pl.Float64(),  # NaN: not estimable
    "low": pl.Float64(),  # NaN: no interval
    "high": pl.Float64(),
    "rows": pl.Int64(),
    "events": pl.Int64(),  # rows with y = 1
    "subjects": pl.Int64(),
    "reason": pl.String(),  # why not estimable; null where it is
}

PAIRS: dict[str, pl.DataType] = {
    "scope": pl.String(),
    "metric": pl.String(),
    "model_a": pl.String(),  # the higher one on the leaderboard
    "model_b": pl.String(),
    "difference": pl.Float64(),  # a minus b
    "low": pl.Float64(),
    "high": pl.Float64(),
    "p": pl.Float64(),
    "p_holm": pl.Float64(),  # corrected over the pairs of this scope and metric
    "verdict": pl.String(),  # of a: better, worse, not distinguishable, not estimable
    "sentence": pl.String(),
}

UNSTABLE = "the event is in too few subjects for an interval"


@dataclass(frozen=True)
class Contest:
    """What every model scored in every scope, and in every resample."""

    scored: Mapping[tuple[str, str], Scored]  # by (scope, model)
    scopes: Sequence[Scope]
    metrics: Sequence[Metric]
    draws: Mapping[tuple[tuple[str, str], str], Floats]  # by ((scope, model), metric): (B,)
    config: EvaluationConfig

    @classmethod
    def held(
        cls,
        scored: Mapping[tuple[str, str], Scored],
        scopes: Sequence[Scope],
        metrics: Sequence[Metric],
        config: EvaluationConfig,
        seed: int,
    ) -> Contest:
        """Resample everything."""
        return cls(scored, scopes, metrics, bootstrap(scored, metrics, config.resamples, seed), config)

    def figure(self, scope: str, model: str, metric: Metric) -> float:
        """The figure on the rows as seen, computed once."""
        rows = self.scored[scope, model]
        return rows.remember(f"figure {metric.name}", lambda: metric(rows))

    def ranked(self, by: Metric) -> list[str]:
        """Models, best first; those that cannot be told last."""

        def place(model: str) -> tuple[bool, float, str]:
            value = self.figure(ALL, model, by) if by.can_use(self.scored[ALL, model]) else math.nan
            return math.isnan(value), 0.0 if math.isnan(value) else _badness(by, value), model

        return sorted({model for _, model in self.scored}, key=place)


def _badness(metric: Metric, value: float) -> float:
    if metric.larger_is_better is None:
        return abs(value - metric.ideal)
    return -value if metric.larger_is_better else value


def leaderboard(contest: Contest, models: Sequence[str]) -> pl.DataFrame:
    """Every figure with its interval and counts."""
    rows = [
        _figure_row(contest, scope.name, model, metric)
        for scope in contest.scopes
        for model in models
        for metric in contest.metrics
        if metric.can_use(contest.scored[scope.name, model])
    ]
    return pl.DataFrame(rows, schema=LEADERBOARD, orient="row")


def _figure_row(contest: Contest, scope: str, model: str, metric: Metric) -> tuple[object, ...]:
    scored = contest.scored[scope, model]
    value = contest.figure(scope, model, metric)
    draws = contest.draws.get(((scope, model), metric.name))
    low, high = interval(draws, contest.config.confidence)
    reason = scored.why_not_estimable or (
        "the figure is not defined for these predictions" if math.isnan(value) else None
    )
    if reason is None and draws is not None and math.isnan(low):
        reason = UNSTABLE
    counts = (len(scored.y), scored.events, scored.subjects_seen)
    return (scope, model, metric.name, value, low, high, *counts, reason)


def pairs(contest: Contest, models: Sequence[str]) -> pl.DataFrame:
    """Every pair of models by every metric that can rank them; subgroups are left out."""
    parts = [
        _pairs_of(contest, scope.name, metric, models)
        for scope in contest.scopes
        if not scope.is_subgroup
        for metric in contest.metrics
        if metric.larger_is_better is not None and metric.resampled
    ]
    return pl.concat([pl.DataFrame(schema=PAIRS), *parts])


def _pairs_of(contest: Contest, scope: str, metric: Metric, models: Sequence[str]) -> pl.DataFrame:
    able = [model for model in models if metric.can_use(contest.scored[scope, model])]
    couples = list(itertools.combinations(able, 2))
    found = [_difference(contest, scope, metric, a, b) for a, b in couples]
    alpha = 1 - contest.config.confidence
    compared = [
        Comparison(a, b, metric, each, p, alpha)
        for (a, b), each, p in zip(couples, found, holm([each.p for each in found]), strict=True)
    ]
    rows = [(scope, metric.name, c.a, c.b, *astuple(c.found), c.p_holm, c.verdict, c.sentence) for c in compared]
    return pl.DataFrame(rows, schema=PAIRS, orient="row")


def _difference(contest: Contest, scope: str, metric: Metric, a: str, b: str) -> Difference:
    value = contest.figure(scope, a, metric) - contest.figure(scope, b, metric)
    draws = [contest.draws.get(((scope, model), metric.name)) for model in (a, b)]
    apart = None if draws[0] is None or draws[1] is None else draws[0] - draws[1]
    return difference(value, apart, contest.scored[scope, a].subjects_seen, contest.config.confidence)
