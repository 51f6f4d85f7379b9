"""The HTML report of a comparison: flagged properties first, then everything that was tested."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from flowsheet import charts
from flowsheet.charts.distributions import CURRENT, REFERENCE
from flowsheet.charts.style import Chart
from flowsheet.config import MonitoringConfig
from flowsheet.evaluation.report.templates import make_environment
from flowsheet.evaluation.summaries import format_estimate
from flowsheet.monitoring.descriptions import OBSERVED_OVER_EXPECTED, property_label
from flowsheet.monitoring.findings import Finding, Findings, rank_finding
from flowsheet.monitoring.performance import MetricEstimate, Performance
from flowsheet.monitoring.profile import PropertyKind
from flowsheet.monitoring.reference import Reference
from flowsheet.monitoring.sketch import QuantileSketch

_MAX_FIGURES = 12
_MAX_NAMES = 6
_SECTIONS: dict[PropertyKind, tuple[str, str]] = {
    "risk": ("Risks", "Mean of each stay's risks; the reference is held-out subjects."),
    "demographics": (
        "Case mix",
        "Attributes that are known from the first hour; categories as shares.",
    ),
    "length_of_stay": ("Length of stay", "Number of steps."),
    "measured_value": ("Values", "Mean of each stay's values."),
    "treatment_exposure": ("Treatments", "Share of each stay's steps in which the drug is given."),
    "measurement_rate": (
        "Charting",
        "Share of each stay's steps in which a new value arrives.",
    ),
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
    """Those that were compared."""
    not_judged: dict[str, list[str]]
    """{reason: labels of the others}."""


def render_report(report: MonitoringReport) -> str:
    """The report as one self-contained HTML page, with its own scripts only; names are escaped."""
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
        calibration=describe_calibration(report.reference.performance, findings.performance),
        sections=_build_sections(findings),
        performance_findings=[f for f in findings.findings if f.kind == "performance"],
        metrics=_pair_metrics(report.reference.performance, findings.performance),
        calibration_figures=_chart_calibration(report.reference.performance, findings.performance),
        figures=_chart_distributions(report),
    )


def summarise(findings: Findings) -> str:
    """The findings in one or two sentences; what could not be judged comes first."""
    total, tests = len(findings.findings), findings.tests
    text = _summarise_flags(findings)
    if findings.is_judged:
        return text
    return (
        f"Not judged: {total - tests} of {total} properties could not be compared "
        f"({findings.main_reason_not_judged}). {text if tests else ''}".strip()
    )


def _summarise_flags(findings: Findings) -> str:
    flags = findings.flags
    if not flags and findings.is_judged:
        return f"No drift: none of {findings.tests} properties is flagged."
    if not flags:
        compared = [f for f in findings.findings if f.p is not None][:_MAX_NAMES]
        labels = ", ".join(property_label(f.kind, f.name) for f in compared)
        return f"Of the {findings.tests} others none is flagged: {labels}."
    names = list(dict.fromkeys(map(_name_property, flags)))
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    listed = ", ".join(names[:_MAX_NAMES])
    return f"{len(flags)} of {findings.tests} properties are flagged: {listed}{more}."


def _name_property(finding: Finding) -> str:
    """A variable or drug by its name, since values and charting of one may both be flagged."""
    is_of_patients = finding.kind in {"performance", "demographics", "length_of_stay"}
    return property_label(finding.kind, finding.name) if is_of_patients else finding.name


def describe_calibration(reference: Performance, current: Performance) -> str:
    """Calibration in the large: observed over expected events with their interval."""
    if not current.has(OBSERVED_OVER_EXPECTED):
        return "Calibration in the large is not judged: no outcome with the event is known."
    texts = []
    for name, performance in (("", current), ("reference ", reference)):
        if performance.has(OBSERVED_OVER_EXPECTED):
            metric = performance[OBSERVED_OVER_EXPECTED]
            numbers = (metric.value, metric.low, metric.high)
            value, low, high = (math.nan if number is None else number for number in numbers)
            texts.append(name + format_estimate(value, low, high, 3))
    return f"Observed / expected events {', '.join(texts)} (1 is calibrated in the large)."


def _build_sections(findings: Findings) -> list[_Section]:
    sections = []
    for kind, (title, explanation) in _SECTIONS.items():
        of_kind = sorted((f for f in findings.findings if f.kind == kind), key=_sort_key)
        not_judged: dict[str, list[str]] = {}
        for finding in of_kind:
            if finding.reason_not_estimable:
                labels = not_judged.setdefault(finding.reason_not_estimable, [])
                labels.append(property_label(finding.kind, finding.name))
        if of_kind:
            judged = [f for f in of_kind if not f.reason_not_estimable]
            sections.append(_Section(title, explanation, judged, not_judged))
    return sections


def _sort_key(finding: Finding) -> tuple[object, ...]:
    return not finding.flagged, rank_finding(finding)


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


def _chart_calibration(reference: Performance, current: Performance) -> list[tuple[str, Chart]]:
    """(caption, chart) with both calibration curves, if the current one can be estimated."""
    if not current.calibration:
        return []
    columns = {"predicted": "x", "observed": "y"}
    schema = {"low": pl.Float64(), "high": pl.Float64()}
    points = [
        pl.DataFrame([b.model_dump() for b in performance.calibration], schema_overrides=schema)
        .rename(columns)
        .with_columns(model=pl.lit(name))
        for name, performance in ((REFERENCE, reference), (CURRENT, current))
        if performance.calibration
    ]
    chart = charts.calibration(pl.concat(points), [REFERENCE, CURRENT])
    return [("Observed frequency over predicted risk", chart)]


def _chart_distributions(report: MonitoringReport) -> list[tuple[str, Chart]]:
    """(caption, chart) with both distribution functions: flagged properties, then the largest
    differences."""
    reference = {(d.kind, d.name): d.sketch for d in report.reference.distributions}
    flagged = [(flag.kind, flag.name) for flag in report.findings.flags]
    by_size = sorted(report.findings.findings, key=lambda f: (-f.effect_size, f.kind, f.name))
    ordered = dict.fromkeys([*flagged, *((f.kind, f.name) for f in by_size)])
    drawn = [key for key in ordered if key in reference and key in report.current]
    return [
        (_caption(*key), _chart_distribution(_caption(*key), reference[key], report.current[key]))
        for key in drawn[:_MAX_FIGURES]
        if reference[key].quantiles and report.current[key].quantiles
    ]


def _caption(kind: str, name: str) -> str:
    label = property_label(kind, name)
    return f"{label}, measurement rate" if kind == "measurement_rate" else label


def _chart_distribution(caption: str, reference: QuantileSketch, current: QuantileSketch) -> Chart:
    points = pl.concat([_step_function(reference, REFERENCE), _step_function(current, CURRENT)])
    return charts.distribution(points, caption, "Share of stays at or below")


def _step_function(sketch: QuantileSketch, name: str) -> pl.DataFrame:
    """The distribution function's steps."""
    values, counts = np.unique(sketch.values, return_counts=True)
    shares = np.cumsum(counts) / counts.sum()
    return pl.DataFrame({"model": name, "x": values, "y": shares, "count": sketch.n})


def _format_number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _format_p_value(value: float | None) -> str:
    if value is None:
        return ""
    if value >= 0.9999:
        return "1"
    return "<0.0001" if value < 1e-4 else f"{value:.4f}"
