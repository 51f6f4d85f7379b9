"""What the tables of a database are for: the roles, and the fields that each role reads.

A database's YAML says which of its columns holds which field. A field that no column holds is not
read; ``REQUIRED`` lists those that a role cannot do without: ``a|b`` is one of two.
"""

from __future__ import annotations

from flowsheet.cohort.engine.cells import CellKind

_ID, _NUMBER, _TIME = CellKind.id, CellKind.number, CellKind.time
_DAY, _FLAG, _TEXT = CellKind.day, CellKind.flag, CellKind.text

_INPUT = {
    "subject_id": _ID,
    "stay_id": _ID,
    "hadm_id": _ID,  # finds the admission of a row that names no stay
    "item": _ID,
    "stored_at": _TIME,
    "amount": _NUMBER,
    "amount_unit": _TEXT,
    "rate": _NUMBER,
    "rate_unit": _TEXT,
    "route": _TEXT,  # intravenous where no column tells it
    "event": _TEXT,  # whether the dose was given; for ``keep``
}

FIELDS: dict[str, dict[str, CellKind]] = {
    "stays": {
        "subject_id": _ID,
        "hadm_id": _ID,
        "stay_id": _ID,
        "site": _TEXT,
        "unit": _TEXT,
        "location": _TEXT,  # for ``keep``
        "admitted_at": _TIME,
        "discharged_at": _TIME,
    },
    "admissions": {
        "subject_id": _ID,
        "hadm_id": _ID,
        "hospital_admitted_at": _TIME,
        "hospital_discharged_at": _TIME,
        "emergency_admitted_at": _TIME,
        "died_at": _TIME,
        "hospital_death": _FLAG,
        "admission_type": _TEXT,
        "age": _NUMBER,  # in years, at admission
        "ethnicity": _TEXT,
        "insurance": _TEXT,
    },
    "patients": {
        "subject_id": _ID,
        "sex": _TEXT,
        "born_at": _DAY,
        "age": _NUMBER,  # in years, in the year ``age_year``
        "age_year": _ID,
        "died_at": _TIME,
        "died_on": _DAY,
        "ethnicity": _TEXT,
    },
    "services": {"hadm_id": _ID, "time": _TIME, "service": _TEXT},
    "diagnoses": {"hadm_id": _ID, "code": _TEXT, "code_version": _ID},
    "events": {
        "subject_id": _ID,
        "hadm_id": _ID,  # finds the subject of a row that names none
        "stay_id": _ID,
        "item": _ID,
        "time": _TIME,
        "stored_at": _TIME,
        "text": _TEXT,
        "number": _NUMBER,
        "unit": _TEXT,
        "specimen": _TEXT,  # for ``keep``
        "is_error": _FLAG,
    },
    "procedures": {
        "subject_id": _ID,
        "stay_id": _ID,
        "item": _ID,
        "start": _TIME,
        "end": _TIME,
        "stored_at": _TIME,
        "status": _TEXT,
    },
    "charted_rates": {**_INPUT, "order_id": _ID, "time": _TIME, "stopped": _TEXT},
    "infusions": {
        **_INPUT,
        "start": _TIME,
        "end": _TIME,
        "category": _TEXT,
        "weight": _NUMBER,
        "status": _TEXT,
    },
    "orders": {
        "hadm_id": _ID,
        "order_id": _ID,
        "start": _TIME,
        "end": _TIME,
        "stored_at": _TIME,
        "drug": _TEXT,
        "route": _TEXT,
    },
    "order_entries": {"order_id": _ID, "stored_at": _TIME},
    "administrations": {
        "subject_id": _ID,
        "hadm_id": _ID,
        "order_id": _ID,
        "time": _TIME,
        "stored_at": _TIME,
        "drug": _TEXT,
        "event": _TEXT,
    },
    "cultures": {
        "subject_id": _ID,
        "hadm_id": _ID,
        "day": _DAY,
        "time": _TIME,
        "specimen": _TEXT,
        "method": _TEXT,  # for ``keep``
    },
}
"""The fields of each role, and what their cells contain. Times of ``orders`` may be days.

``events`` are single values; ``procedures`` and ``infusions`` have a start and an end;
``charted_rates`` give a rate from time to time. ``order_entries`` tell when an order was entered,
``administrations`` which dose was given.
"""

REQUIRED: dict[str, tuple[str, ...]] = {
    "stays": ("subject_id|hadm_id", "stay_id|hadm_id", "admitted_at", "discharged_at"),
    "admissions": ("subject_id", "hadm_id", "hospital_admitted_at", "hospital_discharged_at"),
    "patients": ("subject_id",),
    "services": ("hadm_id", "time", "service"),
    "diagnoses": ("hadm_id", "code"),
    "events": ("subject_id|hadm_id", "time"),
    "procedures": ("subject_id", "item", "start"),
    "charted_rates": ("subject_id|hadm_id", "item", "time", "amount|rate"),
    "infusions": ("subject_id|hadm_id", "item", "start", "end", "amount|rate"),
    "orders": ("hadm_id", "start", "drug"),
    "order_entries": ("order_id", "stored_at"),
    "administrations": ("hadm_id", "time", "drug"),
    "cultures": ("hadm_id", "time", "specimen"),
}

SINGLE_ROLES = (
    *("stays", "admissions", "patients", "services", "diagnoses"),
    *("orders", "order_entries", "administrations", "cultures"),
)
"""Roles of one table at most."""
