"""Curves and alerts: the figures that show all models together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import polars as pl

from flowsheet import charts
from flowsheet.charts.style import Chart
from flowsheet.config import TaskConfig
from flowsheet.evaluation.evidence import Evidence
from flowsheet.evaluation.leaderboard import order_subsets
from flowsheet.evaluation.metrics import get_metric
from flowsheet.evaluation.report.bedside import TimeUnit, time_unit
from flowsheet.evaluation.report.policies import PolicyTable, make_policy_table
from flowsheet.evaluation.report.tables import Cell, TableRow, css_class, make_cell
from flowsheet.evaluation.subsets import ALL, NEW_ONSETS, STAYS
from flowsheet.evaluation.summaries import format_value_and_interval


class Figure(NamedTuple):
    """A chart and its caption."""

    caption: str
    chart: Chart


def make_curve_figures(evidence: Evidence) -> list[tuple[str, list[Figure]]]:
    """The curves of each subset: (title, figures), those of the rows that rank the models first."""
    figures = []
    for subset, title in order_subsets(evidence).items():
        points = evidence.curves.filter(pl.col("subset") == subset)
        if len(points):
            row = evidence.leaderboard.filter(pl.col("subset") == subset).row(0, named=True)
            prevalence = row["events"] / row["rows"]
            notes = {
                name: _note_scores(evidence, subset, name, row["rows"])
                for name in ("auroc", "auprc")
            }
            figures.append((title, _make_curves(points, evidence.models, prevalence, notes)))
    return figures


def _note_scores(evidence: Evidence, subset: str, name: str, n_rows: int) -> dict[str, str]:
    """By model the metric with its interval and the number of rows."""
    metric = get_metric(name)
    rows = evidence.leaderboard.filter(subset=subset, metric=name)
    notes = {}
    for row in rows.iter_rows(named=True):
        value, interval = format_value_and_interval(
            row["value"], row["low"], row["high"], metric.decimals
        )
        notes[row["model"]] = f"{metric.label} {value} {interval}, n = {n_rows:,}"
    return notes


def _make_curves(
    points: pl.DataFrame,
    models: list[str],
    prevalence: float,
    notes: dict[str, dict[str, str]],
) -> list[Figure]:
    """The charts of one subset.

    Args:
        points: of every curve of the subset.
        models: names, the best one first.
        prevalence: share of rows with the event.
        notes: by metric, then by model.
    """
    roc, pr, calibration, decision = (
        points.filter(pl.col("curve") == c) for c in ("roc", "pr", "calibration", "decision")
    )
    figures = [
        Figure("Receiver operating characteristic", charts.roc(roc, models, notes["auroc"])),
        Figure(
            "Precision and recall",
            charts.precision_recall(pr, models, prevalence, notes["auprc"]),
        ),
    ]
    if len(calibration):
        chart = charts.calibration(calibration, models)
        figures.append(Figure("Calibration, both axes logarithmic", chart))
    if len(decision):
        chart = charts.decision_curve(decision, models, prevalence)
        figures.append(Figure("Decision curves", chart))
    return figures


class _Column(NamedTuple):
    """A metric of some rows, in another unit."""

    subset: str
    metric: str
    factor: float
    decimals: int


@dataclass(frozen=True)
class AlertSection:
    """What each model's alerts cost and bring, at its threshold."""

    n_onsets: int
    population: str
    unit: str
    labels: list[str]
    rows: list[TableRow]
    lead_times: Chart | None
    policies: PolicyTable | None


def make_alert_section(
    evidence: Evidence, task: TaskConfig | None, models: list[str]
) -> AlertSection | None:
    """The table and the chart of these models; None where none has alerts."""
    subset = NEW_ONSETS if NEW_ONSETS in evidence.about["subsets"] else ALL
    has_alerts = pl.col("metric").is_in(["alert_share", "episodes_detected"])
    if evidence.leaderboard.filter(has_alerts).is_empty():
        return None
    unit = time_unit(task)
    per_day = 24 / task.step_hours if task else 1.0
    columns = [
        _Column(subset, "alert_share", per_day, 3),
        _Column(subset, "alert_ppv", 1.0, 3),
        _Column(STAYS, "episodes_detected", 1.0, 3),
        _Column(STAYS, "lead_time", 1 / unit.hours, 1),
        _Column(STAYS, "false_alert_rate", 1.0, 3),
    ]
    labels = [
        "Alerts per patient-day" if task else "Alerts per prediction",
        "Right alerts (PPV)",
        "Onsets with an earlier alert",
        f"Median lead time, {unit.plural}",
        "Stays without the event that raise an alert",
    ]
    rows = [
        TableRow(css_class(rank), model, [_scaled_cell(evidence, model, c) for c in columns])
        for rank, model in enumerate(evidence.models)
        if model in models
    ]
    onsets = evidence.leaderboard.filter(subset=STAYS, metric="episodes_detected")
    population = f"patients {evidence.words.not_yet}" if subset == NEW_ONSETS else "all predictions"
    return AlertSection(
        n_onsets=onsets["events"][0] if len(onsets) else 0,
        population=population,
        unit=unit.plural,
        labels=labels,
        rows=rows,
        lead_times=_chart_lead_times(evidence, unit, models),
        policies=make_policy_table(evidence, models, unit),
    )


def _scaled_cell(evidence: Evidence, model: str, column: _Column) -> Cell:
    rows = evidence.leaderboard.filter(subset=column.subset, metric=column.metric, model=model)
    if rows.is_empty():
        return "", ""
    row: dict[str, Any] = rows.row(0, named=True)
    scaled = {name: row[name] * column.factor for name in ("value", "low", "high")}
    return make_cell(scaled, column.decimals)


def _chart_lead_times(evidence: Evidence, unit: TimeUnit, models: list[str]) -> Chart | None:
    lead_times = evidence.lead_times.filter(pl.col("model").is_in(models))
    if lead_times.is_empty():
        return None
    shares = share_by_lead_time(lead_times, unit.hours)
    return charts.lead_time(shares, evidence.models, unit.plural)


def share_by_lead_time(lead_times: pl.DataFrame, unit_hours: float) -> pl.DataFrame:
    """By model the share of onsets with an alert at least so long before (mean over repetitions).

    Args:
        lead_times: columns as in ``tables.LEAD_TIMES``.
        unit_hours: hours of the unit of ``lead``.

    Returns:
        model, lead, share and onsets; up to the time that nine in ten early alerts do not exceed.
    """
    known = lead_times.drop_nulls("hours").sort("hours")
    is_common = (pl.col("episodes").cum_sum() / pl.col("episodes").sum()) <= 0.9
    hours = known["hours"].unique().sort()
    longest = known.filter(is_common)["hours"].max()
    end = max(float(str(longest or 0)), float(str(hours.min() or 0)))
    grid = pl.DataFrame({"lead_hours": [0.0, *hours.filter(hours <= end)]})
    totals = lead_times.group_by("model", maintain_order=True).agg(onsets=pl.col("episodes").sum())
    early = totals.join(grid, how="cross").join(known, on="model", how="left")
    is_early = pl.col("hours") >= pl.col("lead_hours")
    counted = early.group_by("model", "lead_hours", "onsets", maintain_order=True).agg(
        early=pl.col("episodes").filter(is_early).sum()
    )
    return counted.select(
        "model",
        lead=pl.col("lead_hours") / unit_hours,
        share=pl.col("early") / pl.col("onsets"),
        onsets="onsets",
    ).sort("model", "lead", maintain_order=True)
