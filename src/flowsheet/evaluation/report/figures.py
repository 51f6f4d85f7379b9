"""Curves and lead times: the figures that show all models together."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl
from markupsafe import Markup

from flowsheet.evaluation.evidence import Evidence
from flowsheet.evaluation.leaderboard import order_subsets
from flowsheet.evaluation.metrics import get_metric
from flowsheet.evaluation.report import charts
from flowsheet.evaluation.report.tables import TableRow, make_rows
from flowsheet.evaluation.subsets import STAYS

Figure = tuple[str, Markup]
"""Caption and drawing."""


def make_curve_figures(evidence: Evidence) -> list[tuple[str, list[Figure]]]:
    """The curves of each subset: (title, figures)."""
    figures = []
    for subset, title in order_subsets(evidence).items():
        points = evidence.curves.filter(pl.col("subset") == subset)
        if len(points):
            row = evidence.leaderboard.filter(pl.col("subset") == subset).row(0, named=True)
            prevalence = row["events"] / row["rows"]
            figures.append((title, _draw_curves(points, evidence.models, prevalence)))
    return figures


def _draw_curves(points: pl.DataFrame, models: list[str], prevalence: float) -> list[Figure]:
    roc, pr, calibration, decision = (
        points.filter(pl.col("curve") == c) for c in ("roc", "pr", "calibration", "decision")
    )
    figures = [
        ("Receiver operating characteristic", charts.draw_roc(roc, models)),
        ("Precision and recall", charts.draw_precision_recall(pr, models, prevalence)),
    ]
    if len(calibration):
        drawing = charts.draw_calibration(calibration, models)
        figures.append(("Calibration, both axes logarithmic", drawing))
    if len(decision):
        drawing = charts.draw_decision_curves(decision, models, prevalence)
        figures.append(("Decision curves", drawing))
    return figures


LEAD_TIME_METRICS = {
    "episodes_detected": "Episodes detected",
    "lead_time": "Median lead time, h",
    "false_alert_rate": "Stays without the event that raise an alert",
}
"""Name and column head."""


@dataclass(frozen=True)
class LeadTimeSection:
    """How early each model raises its first alert."""

    n_episodes: int
    labels: list[str]
    rows: list[TableRow]
    drawing: Markup


def make_lead_time_section(evidence: Evidence) -> LeadTimeSection | None:
    """The table and the chart; None where no model has alerts."""
    per_stay = evidence.leaderboard.filter(
        pl.col("subset") == STAYS, pl.col("metric").is_in(list(LEAD_TIME_METRICS))
    )
    if evidence.lead_times.is_empty() or per_stay.is_empty():
        return None
    metrics = [get_metric(name) for name in LEAD_TIME_METRICS]
    return LeadTimeSection(
        n_episodes=per_stay["events"][0],
        labels=list(LEAD_TIME_METRICS.values()),
        rows=make_rows(metrics, evidence.models, per_stay),
        drawing=charts.draw_lead_times(evidence.lead_times, evidence.models),
    )
