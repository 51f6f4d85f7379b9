"""The models section: each model, how it was tuned, and what it learned."""

from __future__ import annotations

import math
from typing import Any

import polars as pl
from markupsafe import Markup

from flowsheet.evaluation.evidence import Evidence
from flowsheet.evaluation.report import charts
from flowsheet.evaluation.report.data import ModelReport, ReportData

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
    css = charts.css_class(evidence.models.index(model.name)) if is_ranked else "m0"
    return {
        "data": model,
        "css": css,
        "threshold": evidence.about["thresholds"].get(model.name),
        "trials": _count_trials(model.trials),
        "figures": _draw_figures(model, css),
        "coefficients": [
            (charts.humanize(name), _coefficient_rows(table))
            for name, table in model.tables.items()
            if set(table.columns) >= ESTIMATE_COLUMNS
        ],
    }


def _draw_figures(model: ModelReport, css: str) -> list[tuple[str, Markup]]:
    figures: list[tuple[str, Markup | None]] = []
    if {"number", "state", "value"} <= set(model.trials.columns):
        history = charts.draw_tuning_history(model.trials, model.tuning_score or "Score", css)
        figures.append(("Tuning history", history))
    if len(model.importance):
        bars = _draw_bars("Share of the variance", model.importance)
        figures.append(("Importance of the tuned parameters", bars))
    for name, table in model.tables.items():
        figures.append((charts.humanize(name), _draw_table(name, table, css)))
    return [(caption, drawing) for caption, drawing in figures if drawing]


def _draw_table(name: str, table: pl.DataFrame, css: str) -> Markup | None:
    """A table of a model as a chart: intervals, a curve or bars; None for any other table."""
    if table.width < 2 or table.is_empty():
        return None
    if set(table.columns) >= ESTIMATE_COLUMNS:
        estimates = [
            charts.Estimate(row["term"], row["estimate"], row["low"], row["high"], css)
            for row in _most_significant(table)
        ]
        if not estimates:
            return None
        return charts.draw_forest(charts.humanize(name), estimates, show_zero=True)
    if not table.dtypes[-1].is_numeric():
        return None
    if table.dtypes[0].is_numeric():
        return charts.draw_training_curve(table, css)
    return _draw_bars(charts.humanize(name), table) if table.dtypes[1].is_numeric() else None


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


def _draw_bars(title: str, table: pl.DataFrame) -> Markup:
    label, value = table.columns[:2]
    known = table.with_columns(pl.col(value).cast(pl.Float64)).filter(pl.col(value).is_finite())
    largest = known.sort(pl.col(value).abs(), descending=True, maintain_order=True).head(MAX_TERMS)
    names = [str(name) for name in largest[label]]
    return charts.draw_bars(names, largest[value].to_list(), title)


def _count_trials(trials: pl.DataFrame) -> str:
    if "state" not in trials.columns or trials.is_empty():
        return ""
    states = trials.group_by("state", maintain_order=True).len().sort("state")
    return ", ".join(f"{n:,} {state}" for state, n in states.iter_rows())
