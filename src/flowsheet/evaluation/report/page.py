"""The page: what each section shows, worked out before the template lays it out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from markupsafe import Markup

from flowsheet import __version__
from flowsheet.evaluation import sentences
from flowsheet.evaluation.evidence import Evidence
from flowsheet.evaluation.leaderboard import SCOPES, SHOWN, how_sure
from flowsheet.evaluation.metrics import METRICS, Metric
from flowsheet.evaluation.report import charts
from flowsheet.evaluation.report.data import CohortReport, ModelReport, ReportData
from flowsheet.evaluation.scopes import ALL

FOREST = 3
"""Metrics drawn as forest plots."""
BARS = 15
"""Coefficients or importances shown, the largest ones."""
MISSING = 60
"""Variables in the missingness chart."""


def render(report: ReportData) -> str:
    """The whole page as HTML: no script, nothing loaded from anywhere, every name escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folder = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"count": count, "seconds": duration, "plain": plain}
    return environment.get_template("page.html").render(
        report=report,
        evidence=report.evidence,
        css=Markup((folder / "page.css").read_text()),
        boards=boards(report.evidence),
        legend=[(charts.style(i), name) for i, name in enumerate(report.evidence.models)],
        how_sure=how_sure(report.evidence),
        matrix=matrix(report.evidence),
        curve_sets=curve_sets(report.evidence),
        subgroups=subgroups(report.evidence),
        cohort=cohort(report.cohort) if report.cohort else None,
        models=[model(each, report.evidence) for each in _in_order(report)],
        version=__version__,
    )


Cell = tuple[str, str]
"""A figure and its interval, as texts; the second may be empty."""


@dataclass(frozen=True)
class Table:
    """Some metrics of all models, best model first."""

    labels: list[str]
    lines: list[tuple[str, str, list[Cell]]]  # CSS class, model, a cell for each label


@dataclass(frozen=True)
class Board:
    """The leaderboard of one scope."""

    title: str
    counts: dict[str, int]  # rows, events, subjects
    forests: list[tuple[str, str, Markup]]  # label, which way is better, drawing
    tables: list[Table]  # the leading metrics, the rest
    reasons: list[str]


def boards(evidence: Evidence) -> list[Board]:
    """One for all rows, and one for transitions in where there is one."""
    return [_board(evidence, scope, title) for scope, title in SCOPES.items() if scope in evidence.about["scopes"]]


def _board(evidence: Evidence, scope: str, title: str) -> Board:
    frame = evidence.leaderboard.filter(pl.col("scope") == scope)
    known = frame["metric"].unique(maintain_order=True).to_list()
    leading = [m for m in dict.fromkeys([evidence.about["metric"], *SHOWN]) if m in known]
    sets = [[METRICS.get(m)() for m in names] for names in (leading, [m for m in known if m not in leading])]
    figures = {(row["model"], row["metric"]): row for row in frame.iter_rows(named=True)}
    return Board(
        title,
        counts=frame.select("rows", "events", "subjects").row(0, named=True),
        forests=[_forest(metric, evidence.models, figures) for metric in sets[0][:FOREST]],
        tables=[_table(metrics, evidence.models, figures) for metrics in sets if metrics],
        reasons=frame["reason"].drop_nulls().unique(maintain_order=True).to_list(),
    )


_Figures = dict[tuple[str, str], dict[str, Any]]


def _table(metrics: list[Metric], models: list[str], figures: _Figures) -> Table:
    lines = [
        (charts.style(i), m, [_cell(figures[m, metric.name], metric) for metric in metrics])
        for i, m in enumerate(models)
    ]
    return Table([metric.label for metric in metrics], lines)


def _cell(figure: dict[str, Any], metric: Metric) -> Cell:
    return sentences.parts(figure["value"], figure["low"], figure["high"], metric.decimals)


def _forest(metric: Metric, models: list[str], figures: _Figures) -> tuple[str, str, Markup]:
    told = [(m, figures[m, metric.name], charts.style(i)) for i, m in enumerate(models)]
    rows = [charts.Figure(m, figure["value"], figure["low"], figure["high"], css) for m, figure, css in told]
    better = {True: "higher is better", False: "lower is better", None: f"{metric.ideal:g} is ideal"}
    return metric.label, better[metric.larger_is_better], charts.forest(metric.label, rows)


MARKS = {
    sentences.BETTER: ("better", "▲"),
    sentences.WORSE: ("worse", "▼"),
    sentences.SAME: ("same", "≈"),
    sentences.UNKNOWN: ("unknown", "?"),
}
MIRROR = {sentences.BETTER: sentences.WORSE, sentences.WORSE: sentences.BETTER}


@dataclass(frozen=True)
class Matrix:
    """Every pair of models."""

    label: str
    cells: dict[tuple[str, str], tuple[str, str, str]]  # (row, column): CSS class, mark and figure, verdict
    first: list[str]  # sentences about the best model
    rest: list[str]  # and about the other pairs
    others: list[tuple[str, list[dict[str, str]]]]  # for each scope: title, lines of a table


def matrix(evidence: Evidence) -> Matrix | None:
    """The leading metric as a matrix, the others as a table; None where there is nothing to compare."""
    if evidence.pairs.is_empty():
        return None
    leading = evidence.pairs.filter(pl.col("metric") == evidence.about["metric"], pl.col("scope") == ALL)
    cells = {}
    for row in leading.iter_rows(named=True):
        a, b, verdict = row["model_a"], row["model_b"], row["verdict"]
        cells[a, b] = _matrix_cell(verdict, row["difference"])
        cells[b, a] = _matrix_cell(MIRROR.get(verdict, verdict), -row["difference"])
    others = [
        (title, [_pair_line(row) for row in evidence.pairs.filter(pl.col("scope") == scope).iter_rows(named=True)])
        for scope, title in SCOPES.items()
        if scope in evidence.pairs["scope"]
    ]
    said, rivals = leading["sentence"].to_list(), len(evidence.models) - 1
    return Matrix(METRICS.get(evidence.about["metric"]).label, cells, said[:rivals], said[rivals:], others)


def _matrix_cell(said: str, difference: float) -> tuple[str, str, str]:
    css, mark = MARKS[said]
    return css, mark if math.isnan(difference) else f"{mark} {difference:+.3f}", said


def _pair_line(row: dict[str, Any]) -> dict[str, str]:
    known = not math.isnan(row["p_holm"])
    return {
        "metric": METRICS.get(row["metric"]).label,
        "pair": f"{row['model_a']} - {row['model_b']}",
        "difference": "" if math.isnan(row["difference"]) else f"{row['difference']:+.4f}",
        "interval": f"[{row['low']:+.4f}, {row['high']:+.4f}]" if known else "",
        "p": sentences.p_value(row["p_holm"]) if known else "",
        "verdict": row["verdict"],
    }


def curve_sets(evidence: Evidence) -> list[tuple[str, list[tuple[str, Markup]]]]:
    """ROC, precision-recall and calibration for each scope: (title, [(caption, drawing)])."""
    found = []
    for scope, title in SCOPES.items():
        points = evidence.curves.filter(pl.col("scope") == scope)
        if points.is_empty():
            continue
        board = evidence.leaderboard.filter(pl.col("scope") == scope).row(0, named=True)
        roc, pr, calibration = (points.filter(pl.col("curve") == c) for c in ("roc", "pr", "calibration"))
        found.append(
            (
                title,
                [
                    ("Receiver operating characteristic", charts.roc(roc, evidence.models)),
                    (
                        "Precision and recall",
                        charts.precision_recall(pr, evidence.models, board["events"] / board["rows"]),
                    ),
                    ("Calibration, both axes logarithmic", charts.calibration(calibration, evidence.models)),
                ],
            )
        )
    return found


def subgroups(evidence: Evidence) -> dict[str, Any] | None:
    """The leading metric by subgroup, None where there are none."""
    metric = evidence.about["metric"]
    frame = evidence.leaderboard.filter(pl.col("scope").str.contains(":"), pl.col("metric") == metric)
    if frame.is_empty():
        return None
    lines = []
    for (scope,), group in frame.group_by("scope", maintain_order=True):
        figures = {row["model"]: row for row in group.iter_rows(named=True)}
        first = group.row(0, named=True)
        cells = [
            sentences.parts(figures[m]["value"], figures[m]["low"], figures[m]["high"], 3) for m in evidence.models
        ]
        lines.append({"scope": scope, **{c: first[c] for c in ("rows", "events", "subjects")}, "cells": cells})
    return {"label": METRICS.get(metric).label, "lines": lines}


def cohort(told: CohortReport) -> dict[str, Any]:
    """The cohort's drawings and tables."""
    ranked = sorted(told.missing.items(), key=lambda item: (-item[1], item[0]))[:MISSING]
    third = -(-len(ranked) // 3)
    columns = [ranked[i : i + third] for i in range(0, len(ranked), max(third, 1))]
    parts = [dict(row) for row in told.parts.iter_rows(named=True)]
    return {
        "told": told,
        "parts": [{**row, "prevalence": row["events"] / row["rows"] if row["rows"] else None} for row in parts],
        "attrition": _attrition(told.attrition),
        "missing": [_missing(column) for column in columns],
        "more_missing": max(0, len(told.missing) - MISSING),
    }


def _missing(column: list[tuple[str, float]]) -> Markup:
    return charts.bars([n for n, _ in column], [v for _, v in column], "Share of rows with nothing known", end=1.0)


def _attrition(steps: tuple[tuple[str, int], ...]) -> list[dict[str, Any]]:
    most = max((left for _, left in steps), default=0)
    before = [None, *(left for _, left in steps[:-1])]
    return [
        {"step": step, "left": left, "lost": None if last is None else last - left, "share": left / most if most else 0}
        for (step, left), last in zip(steps, before, strict=True)
    ]


def model(told: ModelReport, evidence: Evidence) -> dict[str, Any]:
    """One model's drawings."""
    css = charts.style(evidence.models.index(told.name)) if told.name in evidence.models else "m0"
    drawings: list[tuple[str, Markup | None]] = []
    if {"number", "state", "value"} <= set(told.trials.columns):
        drawings.append(("Tuning history", charts.tuning(told.trials, told.monitored or "Score", css)))
    drawings += [(charts.words(name), _drawn(name, table, css)) for name, table in told.tables.items()]
    return {
        "told": told,
        "css": css,
        "threshold": evidence.about["thresholds"].get(told.name),
        "trials": _trial_counts(told.trials),
        "drawings": [(caption, drawing) for caption, drawing in drawings if drawing],
    }


def _drawn(name: str, table: pl.DataFrame, css: str) -> Markup | None:
    """Numbers over numbers as a curve, numbers of named things as bars, anything else not at all."""
    if table.width < 2 or table.is_empty() or not table.dtypes[-1].is_numeric():
        return None
    if table.dtypes[0].is_numeric():
        return charts.training(table, css)
    return _largest(name, table) if table.dtypes[1].is_numeric() else None


def _largest(name: str, table: pl.DataFrame) -> Markup:
    label, value = table.columns[:2]
    known = table.with_columns(pl.col(value).cast(pl.Float64)).filter(pl.col(value).is_finite())
    top = known.sort(pl.col(value).abs(), descending=True, maintain_order=True).head(BARS)
    return charts.bars([str(n) for n in top[label]], top[value].to_list(), charts.words(name))


def _trial_counts(trials: pl.DataFrame) -> str:
    if "state" not in trials.columns or trials.is_empty():
        return ""
    states = trials.group_by("state", maintain_order=True).len().sort("state")
    return ", ".join(f"{n:,} {state}" for state, n in states.iter_rows())


def _in_order(report: ReportData) -> list[ModelReport]:
    place = {name: i for i, name in enumerate(report.evidence.models)}
    return sorted(report.models, key=lambda each: (place.get(each.name, len(place)), each.name))


def count(number: int) -> str:
    """With thousands separated."""
    return f"{number:,}"


def duration(seconds: float) -> str:
    """As people say it.

    >>> duration(75)
    '1 min 15 s'
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


def plain(value: Any) -> str:
    """A parameter or fact as text: floats to six figures."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
