"""One model after the other: what it is, how it was found, what it learned."""

from __future__ import annotations

import math
from typing import Any

import polars as pl
from markupsafe import Markup

from flowsheet.evaluation.evidence import Evidence
from flowsheet.evaluation.report import charts
from flowsheet.evaluation.report.data import ModelReport, ReportData

LARGEST = 15
"""Coefficients or importances shown, the largest ones."""
INTERVAL = {"estimate", "low", "high"}


def models(report: ReportData) -> list[dict[str, Any]]:
    """What the page shows of each model, the best first."""
    place = {name: i for i, name in enumerate(report.evidence.models)}
    ordered = sorted(report.models, key=lambda each: (place.get(each.name, len(place)), each.name))
    return [_model(each, report.evidence) for each in ordered]


def _model(told: ModelReport, evidence: Evidence) -> dict[str, Any]:
    css = charts.style(evidence.models.index(told.name)) if told.name in evidence.models else "m0"
    drawings: list[tuple[str, Markup | None]] = []
    if {"number", "state", "value"} <= set(told.trials.columns):
        drawings.append(
            ("Tuning history", charts.tuning(told.trials, told.tuning_score or "Score", css))
        )
    if len(told.importance):
        drawings.append(
            ("Importance of the tuned parameters", _bars("Share of the variance", told.importance))
        )
    drawings += [
        (charts.words(name), _drawn(name, table, css)) for name, table in told.tables.items()
    ]
    return {
        "told": told,
        "css": css,
        "threshold": evidence.about["thresholds"].get(told.name),
        "trials": _trial_counts(told.trials),
        "drawings": [(caption, drawing) for caption, drawing in drawings if drawing],
        "coefficients": [
            (charts.words(name), _numbers(table))
            for name, table in told.tables.items()
            if set(table.columns) >= INTERVAL
        ],
    }


def _drawn(name: str, table: pl.DataFrame, css: str) -> Markup | None:
    """Estimates with intervals, numbers over numbers as a curve, of named things as bars, anything else not at all."""
    if table.width < 2 or table.is_empty():
        return None
    if set(table.columns) >= INTERVAL:
        rows = _best_told(table)
        figures = [charts.Figure(r["term"], r["estimate"], r["low"], r["high"], css) for r in rows]
        return charts.forest(charts.words(name), figures, zero=True) if figures else None
    if not table.dtypes[-1].is_numeric():
        return None
    if table.dtypes[0].is_numeric():
        return charts.training(table, css)
    return _bars(charts.words(name), table) if table.dtypes[1].is_numeric() else None


def _best_told(table: pl.DataFrame) -> list[dict[str, Any]]:
    """The terms whose estimate is the most standard errors from 0; the intercept is none of them."""
    label = table.columns[0]
    known = table.filter(pl.col(label) != "intercept", pl.col("estimate").is_finite())
    sure = (pl.col("estimate") / (pl.col("high") - pl.col("low"))).abs().fill_nan(None)
    ranked = known.sort(
        sure, pl.col("estimate").abs(), descending=True, nulls_last=True, maintain_order=True
    )
    shown = ranked.head(LARGEST).select(
        pl.col(label).alias("term"), pl.col("estimate", "low", "high").fill_null(math.nan)
    )
    return list(shown.iter_rows(named=True))


def _numbers(table: pl.DataFrame) -> list[tuple[str, str, str]]:
    """Term, estimate and interval as texts."""
    return [
        (
            r["term"],
            f"{r['estimate']:+.3f}",
            "" if math.isnan(r["low"]) else f"[{r['low']:+.3f}, {r['high']:+.3f}]",
        )
        for r in _best_told(table)
    ]


def _bars(title: str, table: pl.DataFrame) -> Markup:
    label, value = table.columns[:2]
    known = table.with_columns(pl.col(value).cast(pl.Float64)).filter(pl.col(value).is_finite())
    top = known.sort(pl.col(value).abs(), descending=True, maintain_order=True).head(LARGEST)
    return charts.bars([str(n) for n in top[label]], top[value].to_list(), title)


def _trial_counts(trials: pl.DataFrame) -> str:
    if "state" not in trials.columns or trials.is_empty():
        return ""
    states = trials.group_by("state", maintain_order=True).len().sort("state")
    return ", ".join(f"{n:,} {state}" for state, n in states.iter_rows())
