"""The memory study as a section of the experiment's report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from markupsafe import Markup

from flowsheet.evaluation.metrics import get_metric
from flowsheet.evaluation.report.tables import css_class
from flowsheet.evaluation.report.templates import make_environment
from flowsheet.lifecycle.memory_study.figures import make_figures, order_models
from flowsheet.lifecycle.memory_study.oracle_bound import METRIC_NAMES, ORACLE, SHARE
from flowsheet.lifecycle.memory_study.report_data import MemoryReport
from flowsheet.lifecycle.memory_study.summaries import describe_findings, describe_setting


def render_memory_section(report: MemoryReport, models: Sequence[str] = ()) -> Markup:
    """The section; ``models`` are those of the page in their order, which decides their colours."""
    models = [report.titles.get(model, model) for model in models]
    report = report.with_titles()
    css = {model: css_class(rank) for rank, model in enumerate(order_models(report, models))}
    template = make_environment(Path(__file__).parent).get_template("section.html")
    return Markup(
        template.render(
            setting=describe_setting(report),
            findings=list(describe_findings(report)),
            table=_make_table(report, css),
            figures=make_figures(report, models),
        )
    )


@dataclass(frozen=True)
class ScoreRow:
    """The scores of one model, as texts."""

    model: str
    css: str
    cells: list[tuple[str, ...]]
    """Value, interval over subjects, interval over replicates; the intervals may be empty."""
    distance: str
    family: str


@dataclass(frozen=True)
class ScoreTable:
    """The scores of all models, the oracle's first."""

    labels: list[str]
    rows: list[ScoreRow]
    note: str


def _make_table(report: MemoryReport, css: Mapping[str, str]) -> ScoreTable:
    root_mean_square = pl.col("distance").pow(2).mean().sqrt()
    by_model = report.distances.group_by("model", maintain_order=True).agg(root_mean_square)
    distance = dict(by_model.iter_rows())
    rows = []
    for model in [ORACLE, *report.models]:
        scores = report.scores.filter(model=model).iter_rows(named=True)
        by_metric = {row["metric"]: row for row in scores}
        rows.append(
            ScoreRow(
                model=model,
                css=css.get(model, "truth"),
                cells=[_make_cell(by_metric[name], name) for name in (*METRIC_NAMES, SHARE)],
                distance=f"{distance[model]:.2f}" if model in distance else "",
                family=report.about["models"].get(model, "lower bound of the log loss"),
            )
        )
    labels = [get_metric(name).label for name in METRIC_NAMES]
    return ScoreTable([*labels, "Share of the oracle bound"], rows, _describe_table(report))


def _describe_table(report: MemoryReport) -> str:
    percent = f"{100 * report.about['confidence']:g}%"
    baseline = report.about["baseline"]
    return (
        f"Means over replicates. Below them: the {percent} interval over held-out subjects "
        f"(resampled within each replicate, {report.about['resamples']:,} times, then averaged); "
        f'after "r", Student\'s {percent} interval over replicates. Share of the oracle bound: '
        f"(log loss of {baseline} - log loss) / (log loss of {baseline} - log loss of the "
        "oracle). Error of the learned effects: root mean square of the learned minus the true "
        "effect of a dose, over drugs and lags, in log odds."
    )


def _make_cell(row: Mapping[str, Any], metric: str) -> tuple[str, ...]:
    form = _format_of(metric)

    def describe_interval(low: float, high: float, prefix: str = "") -> str:
        if math.isnan(low + high) or low == high:
            return ""
        return f"{prefix}{low:{form}} to {high:{form}}"

    return (
        f"{row['value']:{form}}",
        describe_interval(row["low"], row["high"]),
        describe_interval(row["replicates_low"], row["replicates_high"], "r "),
    )


def _format_of(metric: str) -> str:
    return ".1%" if metric == SHARE else f".{get_metric(metric).decimals}f"
