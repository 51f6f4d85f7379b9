"""Findings and properties in words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from flowsheet.cohort.catalogue import drugs, variables
from flowsheet.evaluation.metrics import get_metric

OBSERVED_OVER_EXPECTED = "observed_over_expected"
_UNIT = re.compile(r"_(cm|kg)$")


def describe_finding(finding: Mapping[str, Any]) -> str:
    """A finding (the fields of :class:`flowsheet.monitoring.findings.Finding`) as a sentence.

    >>> describe_finding({"kind": "measurement_rate", "name": "lact", "reference_value": 0.2,
    ...     "current_value": 0.1, "ks_statistic": 0.4, "reason_not_estimable": None,
    ...     "suspected_unit": None})
    'lact (lactate): measured in 10.0% of the steps, reference 20.0%; KS statistic 0.40'
    """
    label = property_label(finding["kind"], finding["name"])
    if finding["reason_not_estimable"]:
        return f"{label}: not estimable ({finding['reason_not_estimable']})"
    reference, current = finding["reference_value"], finding["current_value"]
    if finding["kind"] == "performance":
        return f"{label}: {current:.3f}, reference {reference:.3f}"
    effect = finding.get("effect_on_risk")
    text = _describe_distribution(finding, label)
    return text if effect is None else f"{text}; moves the mean risk by {effect:+.4f}"


def _describe_distribution(finding: Mapping[str, Any], label: str) -> str:
    """A changed distribution as a sentence."""
    reference, current = finding["reference_value"], finding["current_value"]
    if finding["suspected_unit"]:
        return (
            f"{label}: {finding['suspected_unit_share']:.0%} of the stays seem to be in "
            f"{finding['suspected_unit']}: mean {current:.4g}, reference {reference:.4g}; "
            "converted, the values fit"
        )
    change = _describe_change(finding["kind"], reference, current)
    return f"{label}: {change}; KS statistic {finding['ks_statistic']:.2f}"


def _describe_change(kind: str, reference: float, current: float) -> str:
    if kind == "measurement_rate":
        return f"measured in {current:.1%} of the steps, reference {reference:.1%}"
    if kind == "treatment_exposure":
        return f"given in {current:.1%} of the steps, reference {reference:.1%}"
    return f"mean {current:.4g}, reference {reference:.4g}"


def property_label(kind: str, name: str) -> str:
    """A property's name with its label and unit.

    >>> property_label("measured_value", "temp"), property_label("length_of_stay", "steps")
    ('temp (body temperature, degC)', 'steps of a stay')
    >>> property_label("demographics", "height_cm"), property_label("demographics", "sex=F")
    ('height, cm', 'sex F')
    """
    if kind == "performance":
        return "Observed / expected" if name == OBSERVED_OVER_EXPECTED else get_metric(name).label
    if kind == "length_of_stay":
        return f"{name} of a stay"
    if kind == "treatment_exposure" and name in drugs():
        label = drugs()[name].label
        return name if label == name else f"{name} ({label})"
    if name not in variables() or kind not in ("measured_value", "measurement_rate"):
        return _describe_attribute(name) if kind == "demographics" else name
    variable = variables()[name]
    if kind == "measured_value":
        return f"{name} ({variable.label}, {variable.unit})"
    return f"{name} ({variable.label})"


def _describe_attribute(name: str) -> str:
    return _UNIT.sub(r", \1", name).replace("_", " ").replace("=", " ")
