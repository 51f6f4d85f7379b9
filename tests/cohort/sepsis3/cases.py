"""Records for cases that can be checked by hand, and the results that the cases look at."""

from __future__ import annotations

from flowsheet.cohort.sepsis3 import Sepsis3Options
from tests.cohort.sepsis3.records import ADMITTED, Record, label_and_compare

DEFAULT = Sepsis3Options()
ANY_DOSE = Sepsis3Options(confirm_after_hours=0)


def healthy_record(hours=96.0):
    """Charted from the first hour, with normal values."""
    record = Record(hours)
    record.chart_every("map", 1, 0.5, hours, 85).chart_every("gcs", 4, 1, hours, 15)
    return record.chart_every("crea", 12, 2, hours, 0.8).chart_every("plt", 12, 2, hours, 250)


def septic_record(last_dose, hours=400):
    """Shock at hour 31; antibiotics every 12 hours from hour 30 until ``last_dose``."""
    record = healthy_record(hours).infuse("norepinephrine", 31, 50, 0.05)
    return add_treatment(record, last=last_dose)


def add_treatment(record, first=30, last=54):
    """Add a culture, and an antibiotic every 12 hours."""
    record.take_culture(first)
    time = first
    while time <= last:
        record.give("vancomycin", time)
        time += 12
    return record


def suspicion_hours(record, options=ANY_DOSE):
    return _hours_after_admission(label_and_compare([record], options).suspicions["time"])


def onset_hours(record, options=DEFAULT):
    return _hours_after_admission(label_and_compare([record], options).episodes["onset"])


def component_scores(record, component, options=DEFAULT):
    return label_and_compare([record], options).sofa[component].to_list()


def _hours_after_admission(times):
    return [round((time - ADMITTED).total_seconds() / 3600, 3) for time in times]
