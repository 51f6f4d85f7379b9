"""The leaderboard, the pairwise comparisons, the folds and the lead times as data frames."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple

import numpy as np
import polars as pl

from flowsheet.cohort.responses.base import SEPSIS_WORDS, Words
from flowsheet.config import CLOCK, FLOOR_MODELS
from flowsheet.evaluation.bootstrap import (
    Difference,
    estimate_difference,
    holm_adjust,
    percentile_interval,
)
from flowsheet.evaluation.metrics import Metric
from flowsheet.evaluation.resampled_t import corrected_t_test
from flowsheet.evaluation.results import EvaluationResults, compute_cached
from flowsheet.evaluation.summaries import PairComparison

LEADERBOARD: dict[str, pl.DataType] = {
    "subset": pl.String(),  # all, new_onsets, before_treatment, stays, or "<grouping>: <group>"
    "model": pl.String(),
    "metric": pl.String(),
    "value": pl.Float64(),  # NaN: not estimable
    "low": pl.Float64(),  # NaN: no interval
    "high": pl.Float64(),
    "rows": pl.Int64(),  # stays, where the subset is "stays"
    "events": pl.Int64(),  # rows with y = 1
    "subjects": pl.Int64(),
    "reason": pl.String(),  # why it is not estimable; null where it is
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
    "fold": pl.Int64(),  # null: all folds of the repetition pooled
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
    "hours": pl.Float64(),  # from the first alert to onset; null: no alert before onset
    "episodes": pl.Int64(),
}

NO_INTERVAL_REASON = "the event is in too few subjects for an interval"


def make_leaderboard(results: EvaluationResults, models: Sequence[str]) -> pl.DataFrame:
    """Every metric with its interval and counts, models in the given order."""
    rows = [
        _leaderboard_row(results, subset.name, model, metric)
        for subset in results.subsets
        for model in models
        for metric in results.list_metrics(subset, model)
    ]
    return pl.DataFrame(rows, schema=LEADERBOARD, orient="row")


def _leaderboard_row(
    results: EvaluationResults, subset: str, model: str, metric: Metric
) -> tuple[object, ...]:
    scored = results.scored[subset, model][0]
    value = results.compute_mean(subset, model, metric)
    draws = results.draws.get(((subset, model), metric.name))
    low, high = percentile_interval(draws, results.config.confidence)
    reason = scored.reason_not_estimable
    if reason is None and math.isnan(value):
        reason = "the metric is not defined for these predictions"
    if reason is None and draws is not None and math.isnan(low):
        reason = NO_INTERVAL_REASON
    return (subset, model, metric.name, value, low, high, *scored.counts, reason)


def make_fold_table(results: EvaluationResults) -> pl.DataFrame:
    """Every metric in every fold, and in each repetition's pooled folds, without subgroups."""
    by_fold = [
        (fold.id.repeat, fold.id.fold, *key, value, *fold.counts[key[0]])
        for fold in results.folds
        for key, value in fold.values.items()
    ]
    pooled = [
        (
            repeat,
            None,
            subset.name,
            model,
            metric.name,
            compute_cached(metric, scored),
            *scored.counts,
        )
        for subset in results.subsets
        for model in results.models
        for repeat, scored in enumerate(results.scored[subset.name, model])
        for metric in results.list_metrics(subset, model)
        if results.folds and not subset.is_subgroup
    ]
    return pl.DataFrame(by_fold + pooled, schema=FOLDS, orient="row")


def count_lead_times(results: EvaluationResults, models: Sequence[str]) -> pl.DataFrame:
    """The number of onsets by the hours from their first alert, for each model."""
    parts = [
        pl.DataFrame({"hours": scored.lead_time[scored.y == 1]})
        .with_columns(pl.col("hours").fill_nan(None))
        .group_by("hours")
        .agg(episodes=pl.len().cast(pl.Int64))
        .sort("hours", nulls_last=True)
        .select(
            repeat=pl.lit(repeat, pl.Int64), model=pl.lit(model), hours="hours", episodes="episodes"
        )
        for model in models
        for repeat, scored in enumerate(results.stays(model))
        if scored.lead_time is not None
    ]
    return pl.concat([pl.DataFrame(schema=LEAD_TIMES), *parts])


def compare_pairs(
    results: EvaluationResults,
    models: Sequence[str],
    words: Words = SEPSIS_WORDS,
    titles: Mapping[str, str] | None = None,
) -> pl.DataFrame:
    """Pairs of models by every metric that can rank them, without subgroups.

    Of the floor only the clock is compared: with every further comparison the correction for their
    number takes away from the others.

    Args:
        results: of all subsets.
        models: names, best first.
        words: of the response.
        titles: by model, for the sentences; None: their names.
    """
    titles = titles or {model: model for model in models}
    metrics = [
        metric
        for metric in results.metrics
        if metric.larger_is_better is not None and metric.has_interval and metric.is_compared
    ]
    parts = [pl.DataFrame(schema=PAIRS)]
    for subset in results.subsets:
        if subset.is_subgroup:
            continue
        for metric in metrics:
            applicable = [m for m in models if metric in results.list_metrics(subset, m)]
            parts.append(
                _compare_by_metric(
                    results, subset.name, metric, applicable, words=words, titles=titles
                )
            )
    return pl.concat(parts)


def _compare_by_metric(
    results: EvaluationResults,
    subset: str,
    metric: Metric,
    models: Sequence[str],
    *,
    words: Words,
    titles: Mapping[str, str],
) -> pl.DataFrame:
    """Every pair of the models by one metric.

    Args:
        results: of all subsets.
        subset: the rows.
        metric: the metric.
        models: those to which it applies, best first.
        words: of the response.
        titles: by model, for the sentences.
    """
    tested = [model for model in models if model == CLOCK or model not in FLOOR_MODELS]
    pairs = list(itertools.combinations(tested, 2))
    differences = [_compare_pair(results, subset, metric, a, b) for a, b in pairs]
    adjusted = holm_adjust([difference.p for difference in differences])
    alpha = 1 - results.config.confidence
    rows = []
    for (a, b), difference, p_holm in zip(pairs, differences, adjusted, strict=True):
        comparison = PairComparison(
            *(titles[a], titles[b], metric, difference, p_holm, alpha, subset),
            n_folds=results.n_random_folds,
            words=words,
        )
        verdict, summary = comparison.verdict, comparison.summary
        rows.append((subset, metric.name, a, b, *astuple(difference), p_holm, verdict, summary))
    return pl.DataFrame(rows, schema=PAIRS, orient="row")


def _compare_pair(
    results: EvaluationResults, subset: str, metric: Metric, a: str, b: str
) -> Difference:
    """Model a minus model b: over random folds where there are some, else by resamples."""
    confidence = results.config.confidence
    if results.n_random_folds:
        by_fold = [
            fold.values[subset, a, metric.name] - fold.values[subset, b, metric.name]
            for fold in results.folds
        ]
        return corrected_t_test(np.array(by_fold), results.test_to_training, confidence)
    value = results.compute_mean(subset, a, metric) - results.compute_mean(subset, b, metric)
    draws_a = results.draws.get(((subset, a), metric.name))
    draws_b = results.draws.get(((subset, b), metric.name))
    draws = None if draws_a is None or draws_b is None else draws_a - draws_b
    n_subjects = results.scored[subset, a][0].n_subjects_with_rows
    return estimate_difference(value, draws, n_subjects, confidence)
