"""The leaderboard, the pairs and the folds, as frames."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import astuple

import numpy as np
import polars as pl

from flowsheet.evaluation.bootstrap import Difference, difference, holm_adjust, percentile_interval
from flowsheet.evaluation.metrics import Metric
from flowsheet.evaluation.resampled_t import corrected_t_test
from flowsheet.evaluation.results import Results, figure
from flowsheet.evaluation.summaries import Comparison

LEADERBOARD: dict[str, pl.DataType] = {
    "subset": pl.String(),  # all, new_onsets, stays, or "<grouping>: <value>"
    "model": pl.String(),
    "metric": pl.String(),
    "value": pl.Float64(),  # NaN: not estimable
    "low": pl.Float64(),  # NaN: no interval
    "high": pl.Float64(),
    "rows": pl.Int64(),  # stays, where the subset is "stays"
    "events": pl.Int64(),  # rows with y = 1
    "subjects": pl.Int64(),
    "reason": pl.String(),  # why not estimable; null where it is
}

PAIRS: dict[str, pl.DataType] = {
    "subset": pl.String(),
    "metric": pl.String(),
    "model_a": pl.String(),  # the higher one on the leaderboard
    "model_b": pl.String(),
    "difference": pl.Float64(),  # a minus b; over folds the mean of the folds' differences
    "low": pl.Float64(),
    "high": pl.Float64(),
    "p": pl.Float64(),
    "p_holm": pl.Float64(),  # corrected over the pairs of this subset and metric
    "verdict": pl.String(),  # of a: better, worse, not distinguishable, not estimable
    "summary": pl.String(),
}

FOLDS: dict[str, pl.DataType] = {
    "repeat": pl.Int64(),
    "fold": pl.Int64(),  # null: all folds of the repetition together, whose mean is on the leaderboard
    "subset": pl.String(),
    "model": pl.String(),
    "metric": pl.String(),
    "value": pl.Float64(),  # on the held-out subjects; NaN: not estimable
    "rows": pl.Int64(),
    "events": pl.Int64(),
    "subjects": pl.Int64(),
}

LEAD_TIMES: dict[str, pl.DataType] = {
    "repeat": pl.Int64(),  # 0 without repetitions
    "model": pl.String(),
    "hours": pl.Float64(),  # from the first alarm to onset; null: no alarm came before
    "episodes": pl.Int64(),
}

UNSTABLE = "the event is in too few subjects for an interval"


def leaderboard(contest: Results, models: Sequence[str]) -> pl.DataFrame:
    """Every figure with its interval and counts."""
    rows = [
        _figure_row(contest, subset.name, model, metric)
        for subset in contest.subsets
        for model in models
        for metric in contest.metrics_of(subset, model)
    ]
    return pl.DataFrame(rows, schema=LEADERBOARD, orient="row")


def _figure_row(contest: Results, subset: str, model: str, metric: Metric) -> tuple[object, ...]:
    scored = contest.scored[subset, model][0]
    value = contest.figure(subset, model, metric)
    draws = contest.draws.get(((subset, model), metric.name))
    low, high = percentile_interval(draws, contest.config.confidence)
    reason = scored.reason_not_estimable or (
        "the figure is not defined for these predictions" if math.isnan(value) else None
    )
    if reason is None and draws is not None and math.isnan(low):
        reason = UNSTABLE
    return (subset, model, metric.name, value, low, high, *scored.counts, reason)


def folds(contest: Results) -> pl.DataFrame:
    """Every figure of every fold, and of each repetition's folds together; subgroups are left out."""
    parts = [
        (fold.repeat, fold.fold, *key, value, *fold.counts[key[0]])
        for fold in contest.folds
        for key, value in fold.figures.items()
    ]
    together = [
        (repeat, None, subset.name, model, metric.name, figure(metric, scored), *scored.counts)
        for subset in contest.subsets
        for model in contest.models
        for repeat, scored in enumerate(contest.scored[subset.name, model])
        for metric in contest.metrics_of(subset, model)
        if contest.folds and not subset.is_subgroup
    ]
    return pl.DataFrame(parts + together, schema=FOLDS, orient="row")


def lead_times(contest: Results, models: Sequence[str]) -> pl.DataFrame:
    """How many onsets had their first alarm how long before, for each model."""
    parts = [
        pl.DataFrame({"hours": scored.lead[scored.y == 1]})
        .with_columns(pl.col("hours").fill_nan(None))
        .group_by("hours")
        .agg(episodes=pl.len().cast(pl.Int64))
        .sort("hours", nulls_last=True)
        .select(
            repeat=pl.lit(repeat, pl.Int64), model=pl.lit(model), hours="hours", episodes="episodes"
        )
        for model in models
        for repeat, scored in enumerate(contest.stays(model))
        if scored.lead is not None
    ]
    return pl.concat([pl.DataFrame(schema=LEAD_TIMES), *parts])


def pairs(contest: Results, models: Sequence[str]) -> pl.DataFrame:
    """Every pair of models by every metric that can rank them; subgroups are left out."""
    parts = [
        _pairs_of(
            contest,
            subset.name,
            metric,
            [m for m in models if metric in contest.metrics_of(subset, m)],
        )
        for subset in contest.subsets
        if not subset.is_subgroup
        for metric in contest.metrics
        if metric.larger_is_better is not None and metric.resampled and metric.compared
    ]
    return pl.concat([pl.DataFrame(schema=PAIRS), *parts])


def _pairs_of(contest: Results, subset: str, metric: Metric, able: Sequence[str]) -> pl.DataFrame:
    couples = list(itertools.combinations(able, 2))
    found = [_difference(contest, subset, metric, a, b) for a, b in couples]
    alpha = 1 - contest.config.confidence
    compared = [
        Comparison(a, b, metric, each, p, alpha, subset, contest.random_folds)
        for (a, b), each, p in zip(
            couples, found, holm_adjust([each.p for each in found]), strict=True
        )
    ]
    rows = [
        (subset, metric.name, c.a, c.b, *astuple(c.found), c.p_holm, c.verdict, c.summary)
        for c in compared
    ]
    return pl.DataFrame(rows, schema=PAIRS, orient="row")


def _difference(contest: Results, subset: str, metric: Metric, a: str, b: str) -> Difference:
    confidence = contest.config.confidence
    if contest.random_folds:
        values = [
            np.array([fold.figures[subset, m, metric.name] for fold in contest.folds])
            for m in (a, b)
        ]
        return corrected_t_test(values[0] - values[1], contest.test_to_training, confidence)
    value = contest.figure(subset, a, metric) - contest.figure(subset, b, metric)
    draws = [contest.draws.get(((subset, model), metric.name)) for model in (a, b)]
    apart = None if draws[0] is None or draws[1] is None else draws[0] - draws[1]
    return difference(value, apart, contest.scored[subset, a][0].subjects_seen, confidence)
