"""What a finding says, in a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowsheet.cohort.catalogue import drugs, variables
from flowsheet.evaluation.metrics.base import METRICS


def said(finding: Mapping[str, Any]) -> str:
    """A sentence about one property, naming it first.

    >>> said({"kind": "presence", "of": "lact", "then": 0.2, "now": 0.1, "gap": 0.4, "why_not": None, "unit": None})
    'lact (lactate): a new value in 10.0% of the steps, was 20.0%; largest gap between the distributions 0.40'
    """
    name = title(finding["kind"], finding["of"])
    if finding["why_not"]:
        return f"{name}: not estimable ({finding['why_not']})"
    then, now = finding["then"], finding["now"]
    if finding["kind"] == "performance":
        return f"{name}: {now:.3f}, was {then:.3f}"
    if finding["unit"]:
        share = finding["unit_share"]
        return (
            f"{name} looks like {finding['unit']} in {share:.0%} of the stays: mean {now:.4g}, was {then:.4g}, "
            f"and read so the values fit"
        )
    return f"{name}: {_change(finding['kind'], then, now)}; largest gap between the distributions {finding['gap']:.2f}"


def _change(kind: str, then: float, now: float) -> str:
    if kind == "presence":
        return f"a new value in {now:.1%} of the steps, was {then:.1%}"
    if kind == "given":
        return f"given in {now:.1%} of the steps, was {then:.1%}"
    return f"mean {now:.4g}, was {then:.4g}"


def title(kind: str, of: str) -> str:
    """A property's name for people.

    >>> title("value", "temp"), title("stay", "steps")
    ('temp (body temperature, degC)', 'steps of a stay')
    """
    if kind == "performance":
        return METRICS.get(of).label
    if kind == "stay":
        return f"{of} of a stay"
    if kind == "given" and of in drugs():
        label = drugs()[of].label
        return of if label == of else f"{of} ({label})"
    if of not in variables() or kind not in ("value", "presence"):
        return of
    about = variables()[of]
    return f"{of} ({about.label}, {about.unit})" if kind == "value" else f"{of} ({about.label})"
