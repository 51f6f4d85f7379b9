"""The HTML report of a comparison: flagged properties first, then everything that was tested."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup

from flowsheet.config import MonitoringConfig
from flowsheet.evaluation.report.svg import Plot
from flowsheet.evaluation.report.templates import make_environment
from flowsheet.monitoring.descriptions import property_label
from flowsheet.monitoring.findings import Finding, Findings
from flowsheet.monitoring.performance import MetricEstimate, Performance
from flowsheet.monitoring.profile import PropertyKind
from flowsheet.monitoring.reference import Reference
from flowsheet.monitoring.sketch import QuantileSketch

_MAX_FIGURES = 12
_MAX_NAMES = 6
_SECTIONS: dict[PropertyKind, tuple[str, str]] = {
    "measured_value": ("Values", "Mean of each stay's values."),
    "measurement_rate": (
        "Measurement rates",
        "Share of each stay's steps in which a new value arrives.",
    ),
    "treatment_exposure": ("Treatments", "Share of each stay's steps in which the drug is given."),
    "demographics": (
        "Demographics",
        "Attributes that are known from the first hour; categories as shares.",
    ),
    "length_of_stay": ("Length of stay", "Number of steps."),
    "risk": ("Risks", "Mean of each stay's risks; the reference is held-out subjects."),
}
"""Title and explanation of each section, by the kind of its properties."""


@dataclass(frozen=True)
class MonitoringReport:
    """Content of the report."""

    title: str
    reference: Reference
    findings: Findings
    config: MonitoringConfig
    provenance: Mapping[str, str | int]
    created_at: str
    current: Mapping[tuple[str, str], QuantileSketch]
    """{(kind, name): current distribution}, for the figures."""


@dataclass(frozen=True)
class _Section:
    title: str
    explanation: str
    findings: list[Finding]


def render_report(report: MonitoringReport) -> str:
    """The report as one self-contained HTML page, without scripts; names are escaped."""
    environment = make_environment(Path(__file__).parent)
    environment.filters |= {
        "number": _format_number,
        "p_value": _format_p_value,
        "label": property_label,
    }
    findings = report.findings
    return environment.get_template("report.html").render(
        report=report,
        findings=findings,
        reference=report.reference,
        config=report.config,
        headline=summarise(findings),
        sections=_build_sections(findings),
        performance_findings=[f for f in findings.findings if f.kind == "performance"],
        metrics=_pair_metrics(report.reference.performance, findings.performance),
        figures=_draw_flagged(report),
    )


def summarise(findings: Findings) -> str:
    """The findings in one sentence."""
    flags = findings.flags
    if not flags:
        return f"No drift: none of {findings.tests} properties is flagged."
    names = list(dict.fromkeys(flag.name for flag in flags))
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    listed = ", ".join(names[:_MAX_NAMES])
    return f"{len(flags)} of {findings.tests} properties are flagged: {listed}{more}."


def _build_sections(findings: Findings) -> list[_Section]:
    sections = []
    for kind, (title, explanation) in _SECTIONS.items():
        of_kind = [finding for finding in findings.findings if finding.kind == kind]
        if of_kind:
            of_kind.sort(key=lambda f: (not f.flagged, f.p is None, -f.effect_size, f.name))
            sections.append(_Section(title, explanation, of_kind))
    return sections


def _pair_metrics(
    reference: Performance, current: Performance
) -> list[tuple[str, MetricEstimate | None, MetricEstimate | None]]:
    """(label, reference, current) of each metric."""
    reference_metrics = {metric.name: metric for metric in reference.metrics}
    current_metrics = {metric.name: metric for metric in current.metrics}
    labels = {name: m.label for name, m in (reference_metrics | current_metrics).items()}
    return [
        (label, reference_metrics.get(name), current_metrics.get(name))
        for name, label in labels.items()
    ]


def _draw_flagged(report: MonitoringReport) -> list[tuple[str, Markup]]:
    """(caption, figure) with both distribution functions of the flagged properties."""
    reference = {(d.kind, d.name): d.sketch for d in report.reference.distributions}
    flagged = [(flag.kind, flag.name) for flag in report.findings.flags]
    drawn = [key for key in flagged if key in reference][:_MAX_FIGURES]
    return [
        (_caption(*key), _draw_distributions(_caption(*key), reference[key], report.current[key]))
        for key in drawn
    ]


def _caption(kind: str, name: str) -> str:
    label = property_label(kind, name)
    return f"{label}, measurement rate" if kind == "measurement_rate" else label


def _draw_distributions(caption: str, reference: QuantileSketch, current: QuantileSketch) -> Markup:
    values = np.concatenate([reference.values, current.values])
    low, high = float(values.min()), float(values.max())
    padding = 0.03 * (high - low) or 0.5
    left, right = low - padding, high + padding
    axes = ("per stay", "share of stays at or below")
    plot = Plot.square(caption, axes, (left, right), (0, 1))
    for sketch, css in ((reference, "curve m0 solid"), (current, "curve m1")):
        plot.drawing.path(plot.points(*_step_function(sketch, left, right)), css)
    return plot.drawing.markup()


def _step_function(
    sketch: QuantileSketch, left: float, right: float
) -> tuple[list[float], list[float]]:
    """Coordinates (x, y) of the distribution function's corners."""
    steps, counts = np.unique(sketch.values, return_counts=True)
    levels = np.concatenate([[0.0], np.cumsum(counts) / counts.sum()])
    return [left, *np.repeat(steps, 2).tolist(), right], np.repeat(levels, 2).tolist()


def _format_number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _format_p_value(value: float | None) -> str:
    if value is None:
        return ""
    if value >= 0.9999:
        return "1"
    return "<0.0001" if value < 1e-4 else f"{value:.4f}"
