"""A concept's recorded facts as a clinician would say them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from flowsheet.cohort import catalogue
from flowsheet.prediction.explanations.concepts import Concept
from flowsheet.prediction.explanations.facts import Dose, RecordedFacts, hours_between
from flowsheet.typing import Floats32

_NUMBERS = (
    *("no", "one", "two", "three", "four", "five", "six"),
    *("seven", "eight", "nine", "ten", "eleven", "twelve"),
)
_STATIC_UNITS = {"height_cm": "cm", "weight_kg": "kg"}


@dataclass(frozen=True)
class Fact:
    """What was recorded, in numbers and in words."""

    text: str
    value: float | None = None
    unit: str | None = None
    hours_ago: float | None = None


@dataclass(frozen=True)
class Moment:
    """The stay of a prediction, when it is made, and the row that its fact is taken from."""

    stay_id: int
    time: int
    """When the prediction is made, in microseconds."""
    row_time: int
    """When the prediction of the fact's row was made."""
    history: Floats32  # (P,) of the prediction's row
    is_value_known: bool = True
    """Whether the model still has the variable's value in that row."""
    column: str = ""
    """Of a course or a derived number: what the column that contributes the most is."""
    column_value: float = math.nan
    """Its value in that row."""


def describe_fact(concept: Concept, facts: RecordedFacts, moment: Moment) -> Fact:
    """The fact of a concept that a model used for a prediction."""
    if concept.kind == "variable":
        return _describe_variable(concept, facts, moment)
    if concept.kind == "drug":
        return _describe_drug(concept, facts, moment)
    if concept.kind in ("course", "derived"):
        return _describe_column(concept, moment)
    if concept.kind == "static":
        return _describe_static(concept, facts.static(moment.stay_id, concept.name))
    if concept.kind == "time":
        admitted = facts.static(moment.stay_id, "admitted_at")
        start = int(np.datetime64(admitted, "us").astype(np.int64))
        hours = hours_between(start, moment.time)
        return Fact(f"{_duration(hours)} since admission", hours, "h")
    return _describe_history(moment.history)


def describe_contribution(text: str, contribution: float) -> str:
    """The fact and what it adds to the log odds.

    >>> describe_contribution("lactate 4.1, two hours old", 0.93)
    'lactate 4.1, two hours old: +0.9'
    >>> describe_contribution("age 67", -0.03)
    'age 67: -0.03'
    """
    digits = 1 if abs(contribution) >= 0.095 else 2 if abs(contribution) >= 0.0095 else 3
    return f"{text}: {contribution:+.{digits}f}"


def _describe_variable(concept: Concept, facts: RecordedFacts, moment: Moment) -> Fact:
    measurement = facts.measurement(moment.stay_id, concept.name, moment.row_time)
    if measurement is None:
        return Fact(f"{concept.label} not measured")
    known = catalogue.variables().get(concept.name)
    hours = hours_between(measurement.time, moment.time)
    value = f"{measurement.value:.6g}"
    text = f"{concept.label} {value}, {_duration(hours)} old"
    if not moment.is_value_known:
        text = f"{concept.label} not measured for {_duration(hours)} (then {value})"
    return Fact(text, measurement.value, known.unit if known else None, hours)


def _describe_column(concept: Concept, moment: Moment) -> Fact:
    """A number that was computed from recorded facts."""
    name = moment.column or concept.label
    if math.isnan(moment.column_value):
        return Fact(f"{name} not known")
    return Fact(f"{name} {moment.column_value:.4g}", moment.column_value)


def _describe_drug(concept: Concept, facts: RecordedFacts, moment: Moment) -> Fact:
    dose = facts.dose(moment.stay_id, concept.name, moment.row_time)
    if dose is None:
        return Fact(f"{concept.label} not given")
    known = catalogue.drugs().get(concept.name)
    unit = dose.unit or (known.unit if known else None)
    amount = "dose not recorded" if dose.dose is None else f"{dose.dose:.6g} {unit or ''}".strip()
    hours = hours_between(min(dose.end, moment.time), moment.time)
    others = dose.exposures - 1
    noun = "dose" if others == 1 else "doses"
    earlier = f", after {_count(others)} earlier {noun}" if others else ""
    text = f"{concept.label} {amount}{_when(dose, moment.time, hours)}{earlier}"
    return Fact(text, dose.dose, unit, hours)


def _when(dose: Dose, time: int, hours: float) -> str:
    if not dose.is_infusion:
        return f", {_duration(hours)} ago"
    if dose.end > time:
        return f" per hour, running for {_duration(hours_between(dose.start, time))}"
    return f" per hour, ended {_duration(hours)} ago"


def _describe_static(concept: Concept, value: Any) -> Fact:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return Fact(f"{concept.label} not recorded")
    if concept.name == "hours_in_hospital":
        return Fact(f"{_duration(value)} in the hospital before admission", value, "h")
    if isinstance(value, str):
        return Fact(f"{concept.label} {value}")
    unit = _STATIC_UNITS.get(concept.name)
    return Fact(f"{concept.label} {value:.6g}{f' {unit}' if unit else ''}", float(value), unit)


def _describe_history(history: Floats32) -> Fact:
    known = int(np.nansum(history == 1))
    steps = "step" if len(history) == 1 else f"{_count(len(history))} steps"
    if not known:
        return Fact(f"response not known in the last {steps}", 0.0)
    if known == len(history):
        return Fact(f"response known in the last {steps}", float(known))
    return Fact(f"response known in {_count(known)} of the last {steps}", float(known))


def _count(number: int) -> str:
    """A number in letters, as far as twelve.

    >>> _count(3), _count(13)
    ('three', '13')
    """
    return _NUMBERS[number] if 0 <= number < len(_NUMBERS) else f"{number:,}"


def _duration(hours: float) -> str:
    """Hours in words, from two days on in days.

    >>> _duration(0.2), _duration(1.9), _duration(60)
    ('less than an hour', 'two hours', 'three days')
    """
    if hours < 0.75:
        return "less than an hour"
    unit, number = ("hour", round(hours)) if hours < 48 else ("day", round(hours / 24 + 1e-9))
    return f"{_count(number)} {unit}{'s' if number != 1 else ''}"
