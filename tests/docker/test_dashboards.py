"""The Grafana dashboard and Prometheus' alert rules name metrics that the server has."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from flowsheet.serving.metrics import Metrics
from tests.conftest import ROOT

_METRIC = re.compile(r"\b(?:flowsheet|process)_\w+")


@pytest.fixture(scope="module")
def samples() -> dict[str, set[str]]:
    """{sample: its labels} of /metrics, where each labelled metric was counted once."""
    metrics = Metrics()
    metrics.requests.labels("/predict", "200").inc()
    metrics.rejected.labels("schema").inc()
    metrics.model.labels("demo-lstm", "champion").set(1)
    metrics.loads.labels("champion", "loaded").inc()
    metrics.stale.labels("champion").set(0)
    metrics.shadow.labels("scored").inc()
    metrics.answers.labels("kept").inc()
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(metrics.text().decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def read_dashboard_expressions() -> list[str]:
    dashboard = json.loads((ROOT / "docker/grafana/serving.json").read_text(encoding="utf-8"))
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


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


def test_the_dashboard_shows_every_metric_of_the_server(samples):
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
