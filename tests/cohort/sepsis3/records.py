"""Small records for the tests of the label; times are hours after admission."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl

from flowsheet.cohort.schema import EPISODES, EVENTS, STAYS, TREATMENTS
from flowsheet.cohort.sepsis3 import (
    ANTIBIOTICS,
    CULTURES,
    LabelInputs,
    Sepsis3Labels,
    Sepsis3Options,
    label,
)
from tests.cohort.sepsis3 import reference, reference_sofa

ADMITTED = datetime(2130, 5, 4, 21, 40)
DAY = timedelta(days=1)


def at(hours):
    """The time that many hours after admission."""
    return ADMITTED + timedelta(hours=hours)


def midnight(hours):
    """The start of the day in which that hour is."""
    return at(hours).replace(hour=0, minute=0)


class Record:
    """One stay, built fact by fact; ``delay`` is the time in hours until a fact is known."""

    def __init__(self, hours=96.0, stay_id=1, died=False):
        self.stay = {
            "stay_id": stay_id,
            "subject_id": stay_id,
            "admitted_at": ADMITTED,
            "discharged_at": at(hours),
            "died_at": at(hours) if died else None,
        }
        self.events = []
        self.treatments = []
        self.antibiotics = []
        self.cultures = []

    def chart(self, variable, time, value, delay=0.0):
        """One measurement."""
        self.events.append(
            {
                "time": at(time),
                "known_at": at(time + delay),
                "variable": variable,
                "value": float(value),
            }
        )
        return self

    def chart_every(self, variable, step, first, last, value):
        """A measurement every ``step`` hours in [first, last)."""
        time = first
        while time < last:
            self.chart(variable, time, value)
            time += step
        return self

    def infuse(self, drug, start, end, rate, delay=0.0):
        """An infusion at ``rate`` mcg/kg/min."""
        self.treatments.append(
            {
                "drug": drug,
                "start": at(start),
                "end": at(end),
                "known_at": at(start + delay),
                "dose": None if rate is None else rate * 60,
                "unit": None if rate is None else "mcg/kg",
            }
        )
        return self

    def give(self, drug, time, end=None, delay=0.0, route=None, source="prescriptions"):
        """An antibiotic with its time: a single dose, or an infusion until ``end``."""
        self.antibiotics.append(
            {
                "drug": drug,
                "time": at(time),
                "end": at(time if end is None else end),
                "known_at": at(time + delay),
                "route": route,
                "source": source,
                "date_only": False,
            }
        )
        return self

    def order(self, drug, time, days=1, route="intravenous"):
        """An order of an antibiotic for whole days."""
        start = midnight(time)
        self.antibiotics.append(
            {
                "drug": drug,
                "time": start,
                "end": start + days * DAY,
                "known_at": start + DAY,
                "route": route,
                "source": "prescriptions",
                "date_only": True,
            }
        )
        return self

    def take_culture(self, time, delay=0.0, specimen="BLOOD CULTURE", date_only=False):
        """A culture, with its time or only its date."""
        start = midnight(time) if date_only else at(time)
        self.cultures.append(
            {
                "time": start,
                "known_at": start + DAY if date_only else at(time + delay),
                "specimen": specimen,
                "date_only": date_only,
            }
        )
        return self


def make_tables(records: list[Record]) -> list[pl.DataFrame]:
    """The records as the tables that the label reads."""

    def table(name, schema):
        rows = []
        for record in records:
            for fact in getattr(record, name):
                row = {"stay_id": record.stay["stay_id"], **fact}
                rows.append({column: row.get(column) for column in schema})
        return pl.DataFrame(rows, schema=schema)

    stays = [{column: record.stay.get(column) for column in STAYS} for record in records]
    return [
        pl.DataFrame(stays, schema=STAYS),
        table("events", EVENTS),
        table("treatments", TREATMENTS),
        table("antibiotics", ANTIBIOTICS),
        table("cultures", CULTURES),
    ]


def label_records(records: list[Record], options: Sepsis3Options | None = None) -> Sepsis3Labels:
    """Label the records as one batch."""
    return label(LabelInputs(*make_tables(records)), options or Sepsis3Options())


def label_and_compare(records: list[Record], options: Sepsis3Options) -> Sepsis3Labels:
    """Label the records, and check each hour, suspicion and episode against the reference."""
    labels = label_records(records, options)
    for record in records:
        compare_with_reference(
            labels,
            record.stay,
            record.events,
            record.treatments,
            record.antibiotics,
            record.cultures,
            options,
        )
    assert labels.episodes.schema == EPISODES
    return labels


def compare_with_reference(
    labels: Sepsis3Labels, stay, events, treatments, antibiotics, cultures, options
):
    """Check the labels of one stay against the reference."""
    stay_id = stay["stay_id"]
    hours = labels.sofa.filter(stay_id=stay_id).drop("stay_id").to_dicts()
    assert hours == reference_sofa.score_hours(stay, events, treatments, options)
    suspicions = labels.suspicions.filter(stay_id=stay_id)
    known_at = dict(zip(suspicions["time"], suspicions["known_at"], strict=True))
    assert known_at == reference.find_suspicions(stay, antibiotics, cultures, options)
    episodes = labels.episodes.filter(stay_id=stay_id).drop("stay_id", "response").rows()
    assert episodes == reference.find_episodes(
        stay, events, treatments, antibiotics, cultures, options
    )
