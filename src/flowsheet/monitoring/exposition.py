"""What monitoring found as Prometheus metrics, for the textfile collector of node_exporter."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from flowsheet.monitoring.findings import KIND_ORDER, Findings
from flowsheet.monitoring.performance import Performance

_VERSION_LABELS = ("model", "version")


def format_metrics(
    model: str, version: int, findings: Findings, reference: Performance, at: datetime
) -> bytes:
    """The metrics in Prometheus' text format; what is not estimable has no sample.

    Args:
        model: registered name.
        version: its version.
        findings: of the comparison.
        reference: the model's performance on its held-out subjects.
        at: time of the comparison.
    """
    registry = CollectorRegistry()
    labels = (model, str(version))

    def gauge(name: str, description: str, *further: str) -> Gauge:
        names = (*_VERSION_LABELS, *further)
        return Gauge(f"flowsheet_monitoring_{name}", description, names, registry=registry)

    gauge("timestamp_seconds", "When records were last compared").labels(*labels).set(
        at.timestamp()
    )
    gauge("stays", "Stays that were compared").labels(*labels).set(findings.stays)
    gauge("judged", "1 if enough properties could be compared").labels(*labels).set(
        findings.is_judged
    )
    properties = gauge("properties", "Properties by whether they could be compared", "outcome")
    properties.labels(*labels, "compared").set(findings.tests)
    properties.labels(*labels, "not_estimable").set(len(findings.findings) - findings.tests)
    flagged = gauge("flagged_properties", "Properties that have changed", "kind")
    counts = Counter(flag.kind for flag in findings.flags)
    for kind in KIND_ORDER:
        flagged.labels(*labels, kind).set(counts[kind])
    alerts = gauge("alert_share", "Share of the predictions that raise an alert")
    if findings.alert_share is not None:
        alerts.labels(*labels).set(findings.alert_share)
    for name, description, performance in (
        ("performance", "Metrics of the current records", findings.performance),
        ("reference_performance", "Metrics of the model's held-out subjects", reference),
    ):
        _set_estimates(
            gauge(name, f"{description}, with 95% intervals", "metric", "estimate"),
            labels,
            performance,
        )
    return generate_latest(registry)


def _set_estimates(gauge: Gauge, labels: tuple[str, ...], performance: Performance) -> None:
    for metric in performance.metrics:
        for estimate in ("value", "low", "high"):
            number = getattr(metric, estimate)
            if number is not None:
                gauge.labels(*labels, metric.name, estimate).set(number)
