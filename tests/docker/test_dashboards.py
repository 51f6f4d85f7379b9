"""The Grafana dashboards and Prometheus' alert rules name metrics that exist."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from flowsheet.monitoring.exposition import format_metrics
from flowsheet.monitoring.findings import Finding, Findings
from flowsheet.monitoring.performance import MetricEstimate, Performance
from flowsheet.serving.metrics import Metrics
from tests.conftest import ROOT

FURTHER_LABELS = ("outcome", "kind", "metric", "estimate")
NOW = datetime(2031, 5, 6, tzinfo=UTC)
PERFORMANCE = Performance(
    rows=10,
    events=5,
    subjects=8,
    reason_not_estimable=None,
    metrics=(
        MetricEstimate(name="auroc", label="AUROC", value=0.75, low=0.7, high=0.8),
        MetricEstimate(name="ece", label="ECE", value=None),
    ),
)
FINDINGS = Findings(
    alpha=0.01,
    stays=9,
    subjects=8,
    findings=(
        *(
            Finding(
                kind="measured_value",
                name=name,
                reference_n=9,
                current_n=9,
                reference_value=1.0,
                current_value=2.0,
                p=p,
                flagged=name == "hr",
            )
            for name, p in (("hr", 0.001), ("temp", 0.5), ("lact", None))
        ),
    ),
    performance=PERFORMANCE,
    alert_share=0.125,
)
_METRIC = re.compile(r"\b(?:flowsheet|process)_\w+")


DASHBOARDS = ("serving", "monitoring")


@pytest.fixture(scope="module")
def samples() -> dict[str, set[str]]:
    """{sample: its labels} of /metrics and of a monitoring, where each labelled metric has one."""
    metrics = Metrics()
    metrics.requests.labels("/predict", "200").inc()
    metrics.rejected.labels("schema").inc()
    metrics.model.labels("demo-lstm", "champion").set(1)
    metrics.loads.labels("champion", "loaded").inc()
    metrics.stale.labels("champion").set(0)
    metrics.shadow.labels("scored").inc()
    metrics.answers.labels("kept").inc()
    found: dict[str, set[str]] = {}
    for text in (metrics.text(), format_metrics("m", 1, FINDINGS, PERFORMANCE, NOW)):
        for family in text_string_to_metric_families(text.decode()):
            for sample in family.samples:
                found.setdefault(sample.name, set()).update(sample.labels)
    return found


def read_dashboard_expressions() -> list[str]:
    expressions = []
    for name in DASHBOARDS:
        text = (ROOT / f"docker/grafana/{name}.json").read_text(encoding="utf-8")
        panels = json.loads(text)["panels"]
        expressions += [target["expr"] for panel in panels for target in panel["targets"]]
    return expressions


def read_rules() -> list[dict]:
    rules = yaml.safe_load((ROOT / "docker/prometheus/alerts.yaml").read_text(encoding="utf-8"))
    return [rule for group in rules["groups"] for rule in group["rules"]]


EXPRESSIONS = [*read_dashboard_expressions(), *(rule["expr"] for rule in read_rules())]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_metric_and_label_is_the_servers(expression, samples):
    names = _METRIC.findall(expression)
    assert names
    assert set(names) <= set(samples)
    labels = {label for name in names for label in samples[name]} | {"job", "instance"}
    selected = re.findall(r"(\w+)\s*=~?\"", expression)
    grouped = [
        label.strip() for by in re.findall(r"by \(([^)]*)\)", expression) for label in by.split(",")
    ]
    assert {*selected, *grouped} <= labels
    assert expression.count("(") == expression.count(")")


def test_the_dashboards_show_every_metric(samples):
    shown = set(_METRIC.findall(" ".join(EXPRESSIONS)))
    families = {re.sub(r"_(total|created|bucket|sum|count)$", "", name) for name in samples}
    missing = {
        family
        for family in families
        if family.startswith("flowsheet_") and not any(name.startswith(family) for name in shown)
    }
    assert missing == set()


def test_every_rule_says_what_is_wrong_and_for_how_long():
    for rule in read_rules():
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert {"summary", "description"} <= set(rule["annotations"])
        assert re.fullmatch(r"\d+m", rule["for"])


def test_the_figures_of_monitoring_are_those_that_were_found():
    text = format_metrics("demo-lstm", 3, FINDINGS, PERFORMANCE, NOW).decode()
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            assert (sample.labels["model"], sample.labels["version"]) == ("demo-lstm", "3")
            further = [sample.labels[n] for n in FURTHER_LABELS if n in sample.labels]
            found[sample.name.removeprefix("flowsheet_monitoring_"), *further] = sample.value
    assert found["timestamp_seconds",] == NOW.timestamp()
    assert found["stays",] == 9
    assert found["judged",] == 1
    assert found["properties", "compared"] == 2
    assert found["properties", "not_estimable"] == 1
    assert found["flagged_properties", "measured_value"] == 1
    assert found["flagged_properties", "performance"] == 0
    assert found["alert_share",] == 0.125
    for estimate, value in (("value", 0.75), ("low", 0.7), ("high", 0.8)):
        assert found["performance", "auroc", estimate] == value
        assert found["reference_performance", "auroc", estimate] == value
    assert ("performance", "ece", "value") not in found
