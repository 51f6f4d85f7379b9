"""Curves and lead times: what a page draws of all models together."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl
from markupsafe import Markup

from flowsheet.evaluation.evidence import Evidence
from flowsheet.evaluation.leaderboard import SUBSET_TITLES
from flowsheet.evaluation.metrics import METRICS
from flowsheet.evaluation.report import charts
from flowsheet.evaluation.report.tables import Cell, cell
from flowsheet.evaluation.subsets import STAYS

Panel = tuple[str, Markup]
"""Caption and drawing."""


def curve_sets(evidence: Evidence) -> list[tuple[str, list[Panel]]]:
    """The curves of each subset: (title, panels)."""
    found = []
    for subset, title in SUBSET_TITLES.items():
        points = evidence.curves.filter(pl.col("subset") == subset)
        if len(points):
            counts = evidence.leaderboard.filter(pl.col("subset") == subset).row(0, named=True)
            found.append(
                (title, _curves(points, evidence.models, counts["events"] / counts["rows"]))
            )
    return found


def _curves(points: pl.DataFrame, models: list[str], prevalence: float) -> list[Panel]:
    roc, pr, calibration, decision = (
        points.filter(pl.col("curve") == c) for c in ("roc", "pr", "calibration", "decision")
    )
    drawn = [
        ("Receiver operating characteristic", charts.roc(roc, models)),
        ("Precision and recall", charts.precision_recall(pr, models, prevalence)),
    ]
    if len(calibration):
        drawn.append(
            ("Calibration, both axes logarithmic", charts.calibration(calibration, models))
        )
    if len(decision):
        drawn.append(("Decision curves", charts.decision(decision, models, prevalence)))
    return drawn


LEAD = ("episodes_detected", "lead_time", "false_alert_rate")


@dataclass(frozen=True)
class LeadTimes:
    """How early each model rings."""

    episodes: int
    labels: list[str]
    lines: list[tuple[str, str, list[Cell]]]  # CSS class, model, a cell for each label
    drawing: Markup


def lead_times(evidence: Evidence) -> LeadTimes | None:
    """None where no model has alarms."""
    board = evidence.leaderboard.filter(pl.col("subset") == STAYS, pl.col("metric").is_in(LEAD))
    if evidence.lead_times.is_empty() or board.is_empty():
        return None
    figures = {(row["model"], row["metric"]): row for row in board.iter_rows(named=True)}
    metrics = [METRICS.get(name)() for name in LEAD]
    lines = [
        (charts.style(i), m, [cell(figures.get((m, metric.name)), metric) for metric in metrics])
        for i, m in enumerate(evidence.models)
    ]
    labels = [metrics[0].label, "Median lead time, h", "Stays without the event that ring"]
    drawing = charts.lead_times(evidence.lead_times, evidence.models)
    return LeadTimes(board["events"][0], labels, lines, drawing)
