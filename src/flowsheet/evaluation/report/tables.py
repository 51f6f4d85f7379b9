"""The tables of the page: the leaderboard of each subset, and the subgroups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import polars as pl

from flowsheet import charts
from flowsheet.charts.style import Chart
from flowsheet.evaluation.evidence import Evidence
from flowsheet.evaluation.leaderboard import order_subsets, select_leading_metrics
from flowsheet.evaluation.metrics import Metric, get_metric
from flowsheet.evaluation.subsets import STAYS
from flowsheet.evaluation.summaries import format_value_and_interval

N_STYLES = 12
N_FOREST_PLOTS = 3
"""Metrics drawn as forest plots."""
MAX_COLUMNS = 8
"""Metrics in a table that still fits a laptop."""

Cell = tuple[str, str]
"""A value and its interval, as texts; either may be empty."""


def css_class(rank: int) -> str:
    """The CSS class of the model at that rank of the leaderboard, counted from 0."""
    return f"m{rank % N_STYLES}"


class TableRow(NamedTuple):
    """One model's line of a table."""

    css: str
    model: str
    cells: list[Cell]


@dataclass(frozen=True)
class MetricTable:
    """Some metrics of all models, best model first."""

    labels: list[str]
    rows: list[TableRow]


class ForestPlot(NamedTuple):
    """One metric of all models as a chart."""

    label: str
    direction: str
    chart: Chart


@dataclass(frozen=True)
class SubsetLeaderboard:
    """The leaderboard of one subset."""

    subset: str
    title: str
    unit: str
    counts: dict[str, int]  # rows, events, subjects
    forest_plots: list[ForestPlot]
    tables: list[MetricTable]  # the leading metrics, then the others
    reasons: list[str]


def make_leaderboards(evidence: Evidence) -> list[SubsetLeaderboard]:
    """One for each subset but subgroups; the one that ranks the models first."""
    return [
        _make_leaderboard(evidence, subset, title)
        for subset, title in order_subsets(evidence).items()
    ]


def _make_leaderboard(evidence: Evidence, subset: str, title: str) -> SubsetLeaderboard:
    frame = evidence.leaderboard.filter(pl.col("subset") == subset)
    leading = [get_metric(name) for name in select_leading_metrics(evidence, frame)]
    leading_names = {metric.name for metric in leading}
    available = frame["metric"].unique(maintain_order=True).to_list()
    others = [get_metric(name) for name in available if name not in leading_names]
    estimable = set(frame.filter(pl.col("value").is_not_nan())["metric"])
    return SubsetLeaderboard(
        subset,
        title,
        "stays" if subset == STAYS else "rows",
        counts=frame.select("rows", "events", "subjects").row(0, named=True),
        forest_plots=[
            _chart_metric(metric, evidence.models, frame)
            for metric in leading[:N_FOREST_PLOTS]
            if metric.name in estimable
        ],
        tables=[
            MetricTable(
                [metric.label for metric in metrics], make_rows(metrics, evidence.models, frame)
            )
            for metrics in (leading, *_split_evenly(others))
            if metrics
        ],
        reasons=frame["reason"].drop_nulls().unique(maintain_order=True).to_list(),
    )


def _split_evenly(metrics: list[Metric]) -> list[list[Metric]]:
    """Metrics for as few tables of at most ``MAX_COLUMNS`` columns as possible."""
    n_tables = -(-len(metrics) // MAX_COLUMNS)
    size = -(-len(metrics) // n_tables) if n_tables else 1
    return [metrics[i : i + size] for i in range(0, len(metrics), size)]


def make_rows(
    metrics: Sequence[Metric], models: Sequence[str], frame: pl.DataFrame
) -> list[TableRow]:
    """A line for each model with a cell for each metric, from rows of the leaderboard."""
    estimates = _by_model_and_metric(frame)
    rows = []
    for rank, model in enumerate(models):
        cells = [
            make_cell(estimates.get((model, metric.name)), metric.decimals) for metric in metrics
        ]
        rows.append(TableRow(css_class(rank), model, cells))
    return rows


def _by_model_and_metric(frame: pl.DataFrame) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["model"], row["metric"]): row for row in frame.iter_rows(named=True)}


def make_cell(estimate: dict[str, Any] | None, decimals: int) -> Cell:
    """A value and its interval; empty where the metric is not computed for the model."""
    if estimate is None:
        return "", ""
    return format_value_and_interval(estimate["value"], estimate["low"], estimate["high"], decimals)


def _chart_metric(metric: Metric, models: list[str], frame: pl.DataFrame) -> ForestPlot:
    rank = {model: i for i, model in enumerate(models)}
    rows = frame.filter(metric=metric.name).sort(
        pl.col("model").replace_strict(rank, return_dtype=pl.Int64), maintain_order=True
    )
    estimates = rows.select("value", "low", "high", name="model", count="rows")
    colors = [charts.style.model_color(rank[model]) for model in rows["model"]]
    directions = {
        True: "higher is better",
        False: "lower is better",
        None: f"{metric.ideal:g} is ideal",
    }
    direction = directions[metric.larger_is_better]
    return ForestPlot(
        metric.label, direction, charts.forest(estimates, metric.label, colors=colors)
    )
