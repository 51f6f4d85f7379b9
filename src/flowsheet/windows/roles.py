"""What each input column says: every column has exactly one role.

``physiology``
    A value of the patient's body: vital signs, laboratory, scores, urine, and statistics of them.
``patient``
    Who the patient is: age, sex, height, weight, comorbidity.
``process``
    What clinicians and the ward do: whether, when and how often something is measured, settings of
    the ventilator, catheters, unit, site, type of admission, hours in hospital before the unit.
``drug``, ``anti_infective``
    What is given; ``anti_infective``: the catalogue's groups ``ANTI_INFECTIVE_GROUPS``.
``clock``
    Hours since admission.
``mixed``
    A number made of columns of several roles, such as SpO2/FiO2 or a partial SOFA with
    vasopressors: neither physiology alone nor process alone.

A model with lagged columns makes them of the columns that it is given. What is measured also shows
through values: they change when a new one arrives, and a model with a memory counts steps itself.
"""

from __future__ import annotations

from flowsheet.cohort import catalogue
from flowsheet.cohort.catalogue import ANTI_INFECTIVE_GROUPS
from flowsheet.config import FeatureRole
from flowsheet.windows.derived_features import list_needed
from flowsheet.windows.sequences import Feature
from flowsheet.windows.statics import NUMERIC

_ROLE_OF_KIND: dict[str, FeatureRole] = {
    "vital": "physiology",
    "lab": "physiology",
    "score": "physiology",
    "output": "physiology",
    "body": "patient",
    "ventilation": "process",
    "treatment": "process",
    "device": "process",
    "input": "process",
}
"""By kind of variable; variables of other kinds are ``mixed``."""
_ROLE_OF_VARIABLE: dict[str, FeatureRole] = {
    "norepinephrine_equivalents": "drug",
    "urine_rate_6h": "physiology",
    "urine_rate_12h": "physiology",
    "urine_rate_24h": "physiology",
}
"""Variables that their kind says nothing about."""


def find_role(feature: Feature) -> FeatureRole:
    """The role of a column.

    >>> find_role(Feature("hr_last", "value", "hr")), find_role(Feature("hr_count", "value", "hr"))
    ('physiology', 'process')
    """
    if feature.kind in {"missing", "since"} or _is_count(feature):
        return "process"
    if feature.kind == "time":
        return "clock"
    if feature.kind == "static":
        return "patient" if feature.source in {*NUMERIC, "sex"} else "process"
    if feature.kind == "treatment":
        return _find_role_of_drug(feature.source)
    if feature.kind == "derived":
        roles = {_find_role_of_source(name) for name in list_needed(feature.source)}
        return roles.pop() if len(roles) == 1 else "mixed"
    return _find_role_of_variable(feature.source)


def _is_count(feature: Feature) -> bool:
    """Whether it counts measurements: of the step, of a window, or so far."""
    return feature.name == f"{feature.source}_count" or feature.name.startswith(
        f"{feature.source}_count_"
    )


def _find_role_of_drug(name: str) -> FeatureRole:
    drug = catalogue.drugs().get(name)
    return "anti_infective" if drug and drug.group in ANTI_INFECTIVE_GROUPS else "drug"


def _find_role_of_variable(name: str) -> FeatureRole:
    known = catalogue.variables().get(name)
    if name in _ROLE_OF_VARIABLE or known is None:
        return _ROLE_OF_VARIABLE.get(name, "mixed")
    return _ROLE_OF_KIND.get(known.kind, "mixed")


def _find_role_of_source(name: str) -> FeatureRole:
    """The role of a variable or a drug."""
    is_drug = name in catalogue.drugs()
    return _find_role_of_drug(name) if is_drug else _find_role_of_variable(name)
