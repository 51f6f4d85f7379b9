"""The models section: each model, how it was tuned, and what it learned."""

from __future__ import annotations

import math
from typing import Any

import polars as pl

from flowsheet import charts
from flowsheet.charts.style import Chart, model_color
from flowsheet.charts.tuning import humanize
from flowsheet.evaluation.evidence import Evidence
from flowsheet.evaluation.report.data import ModelReport, ReportData
from flowsheet.evaluation.report.figures import Figure
from flowsheet.evaluation.report.tables import css_class

MAX_TERMS = 15
"""Coefficients or importances shown, the largest ones."""
ESTIMATE_COLUMNS = {"estimate", "low", "high"}
"""Columns of a table of coefficients with intervals."""


def prepare_models(report: ReportData) -> list[dict[str, Any]]:
    """What the template of the section shows of each model, the best first."""
    rank = {name: i for i, name in enumerate(report.evidence.models)}
    ordered = sorted(report.models, key=lambda model: (rank.get(model.name, len(rank)), model.name))
    return [_prepare_model(model, report.evidence) for model in ordered]


def _prepare_model(model: ModelReport, evidence: Evidence) -> dict[str, Any]:
    is_ranked = model.name in evidence.models
    rank = evidence.models.index(model.name) if is_ranked else 0
    return {
        "data": model,
        "title": evidence.titles.get(model.name, model.name),
        "css": css_class(rank),
        "threshold": evidence.about["thresholds"].get(model.name),
        "trials": _count_trials(model.trials),
        "figures": _make_figures(model, model_color(rank)),
        "coefficients": [
            (humanize(name), _coefficient_rows(table))
            for name, table in model.tables.items()
            if set(table.columns) >= ESTIMATE_COLUMNS
        ],
    }


def _make_figures(model: ModelReport, color: str) -> list[Figure]:
    figures: list[tuple[str, Chart | None]] = []
    if {"number", "state", "value"} <= set(model.trials.columns):
        history = charts.tuning_history(model.trials, model.tuning_score or "Score", color)
        figures.append(("Tuning history", history))
    if len(model.importance):
        bars = _make_bars("Share of the variance", model.importance)
        figures.append(("Importance of the tuned parameters", bars))
    for name, table in model.tables.items():
        figures.append((humanize(name), _chart_table(name, table, color)))
    return [Figure(caption, chart) for caption, chart in figures if chart is not None]


def _chart_table(name: str, table: pl.DataFrame, color: str) -> Chart | None:
    """A table of a model as a chart: intervals, a curve or bars; None for any other table."""
    if table.width < 2 or table.is_empty():
        return None
    if set(table.columns) >= ESTIMATE_COLUMNS:
        estimates = pl.DataFrame(_most_significant(table))
        if estimates.is_empty():
            return None
        renamed = estimates.rename({"term": "name", "estimate": "value"})
        colors = [color] * len(renamed)
        return charts.forest(renamed, "Log odds ratio", zero=True, colors=colors)
    if not table.dtypes[-1].is_numeric():
        return None
    if table.dtypes[0].is_numeric():
        return charts.training_curve(table, color)
    return _make_bars(humanize(name), table) if table.dtypes[1].is_numeric() else None


def _most_significant(table: pl.DataFrame) -> list[dict[str, Any]]:
    """The terms whose estimates are the most standard errors from 0, without the intercept."""
    label = table.columns[0]
    known = table.filter(pl.col(label) != "intercept", pl.col("estimate").is_finite())
    significance = (pl.col("estimate") / (pl.col("high") - pl.col("low"))).abs().fill_nan(None)
    ranked = known.sort(
        significance,
        pl.col("estimate").abs(),
        descending=True,
        nulls_last=True,
        maintain_order=True,
    )
    shown = ranked.head(MAX_TERMS).select(
        pl.col(label).alias("term"), pl.col("estimate", "low", "high").fill_null(math.nan)
    )
    return list(shown.iter_rows(named=True))


def _coefficient_rows(table: pl.DataFrame) -> list[tuple[str, str, str]]:
    """Term, estimate and interval as texts."""
    rows = []
    for row in _most_significant(table):
        has_interval = not math.isnan(row["low"])
        interval = f"[{row['low']:+.3f}, {row['high']:+.3f}]" if has_interval else ""
        rows.append((row["term"], f"{row['estimate']:+.3f}", interval))
    return rows


def _make_bars(label: str, table: pl.DataFrame) -> Chart | None:
    name, value = table.columns[:2]
    known = table.select(name=pl.col(name).cast(pl.String), value=pl.col(value).cast(pl.Float64))
    known = known.filter(pl.col("value").is_finite())
    largest = known.sort(pl.col("value").abs(), descending=True, maintain_order=True)
    return charts.bars(largest.head(MAX_TERMS), label) if len(known) else None


def _count_trials(trials: pl.DataFrame) -> str:
    if "state" not in trials.columns or trials.is_empty():
        return ""
    states = trials.group_by("state", maintain_order=True).len().sort("state")
    return ", ".join(f"{n:,} {state}" for state, n in states.iter_rows())
