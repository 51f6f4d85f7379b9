"""The leaderboard, subset by subset, and the subgroups: what the tables of a page show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl
from markupsafe import Markup

from flowsheet.evaluation import summaries
from flowsheet.evaluation.evidence import Evidence
from flowsheet.evaluation.leaderboard import SHOWN, SUBSET_TITLES
from flowsheet.evaluation.metrics import METRICS, Metric
from flowsheet.evaluation.report import charts
from flowsheet.evaluation.subsets import STAYS

FOREST = 3
"""Metrics drawn as forest plots."""

Cell = tuple[str, str]
"""A figure and its interval, as texts; the second may be empty."""


@dataclass(frozen=True)
class Table:
    """Some metrics of all models, best model first."""

    labels: list[str]
    lines: list[tuple[str, str, list[Cell]]]  # CSS class, model, a cell for each label


@dataclass(frozen=True)
class Board:
    """The leaderboard of one subset."""

    title: str
    unit: str
    counts: dict[str, int]  # rows, events, subjects
    forests: list[tuple[str, str, Markup]]  # label, which way is better, drawing
    tables: list[Table]  # the leading metrics, the rest in handfuls
    reasons: list[str]


ABREAST = 8
"""Metrics in a table that still fits a laptop."""


def boards(evidence: Evidence) -> list[Board]:
    """One for all rows, one for transitions in where there is one, one for stays."""
    return [
        _board(evidence, subset, title)
        for subset, title in SUBSET_TITLES.items()
        if subset in evidence.about["subsets"]
    ]


def _board(evidence: Evidence, subset: str, title: str) -> Board:
    frame = evidence.leaderboard.filter(pl.col("subset") == subset)
    known = frame["metric"].unique(maintain_order=True).to_list()
    leading = [m for m in dict.fromkeys([evidence.about["metric"], *SHOWN]) if m in known]
    rest = [m for m in known if m not in leading]
    sets = [[METRICS.get(m)() for m in names] for names in (leading, *_handfuls(rest))]
    figures = {(row["model"], row["metric"]): row for row in frame.iter_rows(named=True)}
    estimable = set(frame.filter(pl.col("value").is_not_nan())["metric"])
    return Board(
        title,
        "stays" if subset == STAYS else "rows",
        counts=frame.select("rows", "events", "subjects").row(0, named=True),
        forests=[
            _forest(metric, evidence.models, figures)
            for metric in sets[0][:FOREST]
            if metric.name in estimable
        ],
        tables=[_table(metrics, evidence.models, figures) for metrics in sets if metrics],
        reasons=frame["reason"].drop_nulls().unique(maintain_order=True).to_list(),
    )


def _handfuls(names: list[str]) -> list[list[str]]:
    tables = -(-len(names) // ABREAST)
    size = -(-len(names) // tables) if tables else 1
    return [names[i : i + size] for i in range(0, len(names), size)]


_Figures = dict[tuple[str, str], dict[str, Any]]


def _table(metrics: list[Metric], models: list[str], figures: _Figures) -> Table:
    lines = [
        (charts.style(i), m, [cell(figures.get((m, metric.name)), metric) for metric in metrics])
        for i, m in enumerate(models)
    ]
    return Table([metric.label for metric in metrics], lines)


def cell(figure: dict[str, Any] | None, metric: Metric) -> Cell:
    """A figure as texts; empty where a model was not asked for it."""
    return (
        ("", "")
        if figure is None
        else summaries.estimate_parts(
            figure["value"], figure["low"], figure["high"], metric.decimals
        )
    )


def _forest(metric: Metric, models: list[str], figures: _Figures) -> tuple[str, str, Markup]:
    told = [
        (m, figures[m, metric.name], charts.style(i))
        for i, m in enumerate(models)
        if (m, metric.name) in figures
    ]
    rows = [
        charts.Figure(m, figure["value"], figure["low"], figure["high"], css)
        for m, figure, css in told
    ]
    better = {
        True: "higher is better",
        False: "lower is better",
        None: f"{metric.ideal:g} is ideal",
    }
    return metric.label, better[metric.larger_is_better], charts.forest(metric.label, rows)


@dataclass(frozen=True)
class Subgroups:
    """One metric of all models in every subgroup."""

    label: str
    groupings: list[
        tuple[str, list[dict[str, Any]]]
    ]  # name, lines: group, rows, events, subjects, cells


def subgroups(evidence: Evidence) -> Subgroups | None:
    """The leading metric by subgroup, None where there are none."""
    metric = METRICS.get(evidence.about["metric"])()
    frame = evidence.leaderboard.filter(
        pl.col("subset").str.contains(": "), pl.col("metric") == metric.name
    )
    if frame.is_empty():
        return None
    groupings: dict[str, list[dict[str, Any]]] = {}
    for (subset,), group in frame.group_by("subset", maintain_order=True):
        grouping, name = str(subset).split(": ", 1)
        figures = {row["model"]: row for row in group.iter_rows(named=True)}
        counts = group.select("rows", "events", "subjects").row(0, named=True)
        cells = [cell(figures.get(m), metric) for m in evidence.models]
        groupings.setdefault(grouping, []).append({"group": name, **counts, "cells": cells})
    return Subgroups(
        metric.label, [(charts.words(name), lines) for name, lines in groupings.items()]
    )
