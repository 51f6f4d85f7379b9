"""The first sentences of a report: which model ranks first, by how much, and among whom."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import polars as pl

from flowsheet.cohort.responses.base import SEPSIS_WORDS, Words
from flowsheet.config import CLOCK, FLOOR_MODELS
from flowsheet.evaluation.metrics import Metric
from flowsheet.evaluation.ranking import ModelRanking
from flowsheet.evaluation.subset_names import describe_subset
from flowsheet.evaluation.subsets import ALL, NEW_ONSETS
from flowsheet.evaluation.summaries import (
    BETTER,
    NOT_ESTIMABLE,
    SAME,
    format_estimate,
    join_names,
)


def write_headline(
    leaderboard: pl.DataFrame,
    pairs: pl.DataFrame,
    metric: Metric,
    ranking: ModelRanking,
    *,
    words: Words = SEPSIS_WORDS,
    titles: Mapping[str, str] | None = None,
) -> str:
    """Which model ranks first, its value, and how it compares with the others.

    Where new onsets are a part of the rows, the headline is about them, and adds which model ranks
    first over all rows.

    Args:
        leaderboard: every value; columns as in ``tables.LEADERBOARD``.
        pairs: every pair of models; columns as in ``tables.PAIRS``.
        metric: the metric that ranks the models.
        ranking: the models' order, and the subset that gives it.
        words: of the response.
        titles: by model; None: their names.
    """
    titles = titles or {model: model for model in ranking.models}
    first = _find_row(leaderboard, ranking.models[0], metric, ranking.subset)
    if first is None:
        return f"No model can be ranked by {metric.label}: it requires {metric.requires}."
    if math.isnan(first["value"]):
        return f"No model can be ranked by {metric.label}: {first['reason']}."
    sentences = [_describe_first(first, pairs, metric, words, titles)]
    sentences += describe_room(leaderboard, first["model"], first["subset"], metric, titles)
    if ranking.subset == NEW_ONSETS:
        sentences.append(_describe_best_over_all_rows(leaderboard, metric, ranking, words, titles))
    elif ranking.fallback_reason:
        sentences.append(
            f"This is over all rows, those of patients who are already {words.state} included; "
            f"among patients {words.not_yet} no model can be ranked: {ranking.fallback_reason}."
        )
    return " ".join(sentences)


def _describe_first(
    first: dict[str, Any],
    pairs: pl.DataFrame,
    metric: Metric,
    words: Words,
    titles: Mapping[str, str],
) -> str:
    """The model that ranks first and how it compares with the others, in its subset.

    Args:
        first: its row of the leaderboard.
        pairs: every pair of models.
        metric: the metric that ranks the models.
        words: of the response.
        titles: by model.
    """
    subset = first["subset"]
    phrase = describe_subset(subset, words)
    title = titles[first["model"]]
    clauses = [f"{title} ranks first by {metric.label}{phrase} ({_format(first, metric)})"]
    rivals = pairs.filter(metric=metric.name, subset=subset, model_a=first["model"])
    for verdict, phrase in (
        (BETTER, "it is better than"),
        (SAME, "it is not distinguishable at this sample size from"),
        (NOT_ESTIMABLE, "too few data to compare it with"),
    ):
        names = [titles[rival] for rival in rivals.filter(verdict=verdict)["model_b"]]
        if names:
            clauses.append(f"{phrase} {join_names(names)}")
    return "; ".join(clauses) + "."


def describe_room(
    leaderboard: pl.DataFrame,
    model: str,
    subset: str,
    metric: Metric,
    titles: Mapping[str, str] | None = None,
) -> list[str]:
    """What a model adds to the clock, in a sentence; empty where the clock was not evaluated.

    Args:
        leaderboard: every value; columns as in ``tables.LEADERBOARD``.
        model: the model that ranks first.
        subset: the rows that rank it.
        metric: the metric that ranks it.
        titles: by model; None: their names.
    """
    clock = _find_row(leaderboard, CLOCK, metric, subset)
    if clock is None or math.isnan(clock["value"]):
        return []
    estimate = f"{metric.label} {_format(clock, metric)}"
    if model in FLOOR_MODELS:
        return ["No model is better than what needs no training on patients: the floor."]
    name = f"{metric.name}_above_clock"
    share = leaderboard.filter(model=model, metric=name, subset=subset)
    if share.is_empty() or math.isnan(share["value"][0]):
        return [f"A clock, which knows nothing about the patient, has {estimate}."]
    row = share.row(0, named=True)
    interval = ""
    if not math.isnan(row["low"]):
        interval = f" [{row['low']:.0%}, {row['high']:.0%}]"
    return [
        f"A clock, which knows nothing about the patient, has {estimate}: of the room above it "
        f"{(titles or {}).get(model, model)} gains {row['value']:.0%}{interval}."
    ]


def _describe_best_over_all_rows(
    leaderboard: pl.DataFrame,
    metric: Metric,
    ranking: ModelRanking,
    words: Words,
    titles: Mapping[str, str],
) -> str:
    """Which model ranks first over all rows, and what it is worth among new onsets.

    Args:
        leaderboard: every value.
        metric: the metric that ranks the models.
        ranking: the models' order.
        words: of the response.
        titles: by model.
    """
    best = ranking.best_over_all_rows
    over_all = _find_row(leaderboard, best, metric, ALL)
    all_rows = f"Over all rows, those of patients who are already {words.state} included,"
    if over_all is None or math.isnan(over_all["value"]):
        return f"{all_rows} no model can be ranked."
    if best == ranking.models[0]:
        return f"{all_rows} it ranks first too ({_format(over_all, metric)})."
    among_new = _find_row(leaderboard, best, metric, NEW_ONSETS)
    estimate = _format(among_new, metric) if among_new else NOT_ESTIMABLE
    return (
        f"{all_rows} {titles[best]} ranks first ({_format(over_all, metric)}), but not among "
        f"patients {words.not_yet} ({estimate})."
    )


def _find_row(
    leaderboard: pl.DataFrame, model: str, metric: Metric, subset: str
) -> dict[str, Any] | None:
    rows = leaderboard.filter(model=model, metric=metric.name, subset=subset)
    return rows.row(0, named=True) if rows.height else None


def _format(row: dict[str, Any], metric: Metric) -> str:
    return format_estimate(row["value"], row["low"], row["high"], metric.decimals)
