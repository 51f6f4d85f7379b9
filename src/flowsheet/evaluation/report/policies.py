"""The alerts section's second half: what each alert policy costs and finds, by episode."""

from __future__ import annotations

from dataclasses import dataclass

from flowsheet.evaluation.alert_judgement import AlertEstimate
from flowsheet.evaluation.evidence import Evidence
from flowsheet.evaluation.report.bedside import TimeUnit
from flowsheet.evaluation.report.tables import Cell, TableRow, css_class, make_cell


@dataclass(frozen=True)
class PolicyTable:
    """The judged policies of some models."""

    description: str
    """When the first of them raises an alert."""
    labels: list[str]
    rows: list[TableRow]
    promises: list[tuple[str, str, str]]
    """CSS class, model and what became of its promise."""


def make_policy_table(evidence: Evidence, models: list[str], unit: TimeUnit) -> PolicyTable | None:
    """The table of these models; None where no policy was judged, as in earlier releases.

    Args:
        evidence: with the models' titles.
        models: the models that are shown.
        unit: of lead times.
    """
    judged = evidence.alerts
    shown = [(rank, m) for rank, m in enumerate(evidence.models) if m in models and m in judged]
    if not shown:
        return None
    rows = []
    promises = []
    for rank, model in shown:
        alerts = judged[model]
        lead = "" if alerts.lead_hours is None else f"{alerts.lead_hours / unit.hours:.1f}"
        cells: list[Cell] = [
            _make_cell(alerts.alerts_per_day),
            _make_cell(alerts.ppv),
            _make_cell(alerts.onsets_found),
            (lead, ""),
        ]
        if alerts.promise:
            promises.append((css_class(rank), model, alerts.promise.sentence))
            cells.append((alerts.promise.verdict, ""))
        rows.append(TableRow(css_class(rank), model, cells))
    labels = [
        "Alerts per patient-day",
        "Right alerts (PPV)",
        "Onsets found in their window",
        f"Median lead time, {unit.plural}",
    ]
    first = judged[shown[0][1]]
    return PolicyTable(
        description=first.description,
        labels=[*labels, "Promise"] if promises else labels,
        rows=rows,
        promises=promises,
    )


def _make_cell(estimate: AlertEstimate) -> Cell:
    values = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
    known = {k: float("nan") if v is None else v for k, v in values.items()}
    return make_cell(known, 3)
