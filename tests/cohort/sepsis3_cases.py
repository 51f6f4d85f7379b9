"""Small records for the label's tests: facts told in hours since admission."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl

from flowsheet.cohort.schema import EPISODES, EVENTS, STAYS, TREATMENTS
from flowsheet.cohort.sepsis3 import ANTIBIOTICS, CULTURES, Sepsis3Labels, Sepsis3Options, label
from tests.cohort import sepsis3_oracle as oracle

ADMITTED = datetime(2130, 5, 4, 21, 40)
DAY = timedelta(days=1)


def at(hours):
    return ADMITTED + timedelta(hours=hours)


def midnight(hours):
    """Begin of the day in which that hour falls."""
    return at(hours).replace(hour=0, minute=0)


class Record:
    """One stay, built fact by fact."""

    def __init__(self, hours=96.0, stay_id=1):
        self.stay = {
            "stay_id": stay_id,
            "subject_id": stay_id,
            "admitted_at": ADMITTED,
            "discharged_at": at(hours),
        }
        self.events, self.treatments, self.antibiotics, self.cultures = [], [], [], []

    def chart(self, variable, time, value, late=0.0):
        row = {
            "time": at(time),
            "known_at": at(time + late),
            "variable": variable,
            "value": float(value),
        }
        self.events.append(row)
        return self

    def every(self, variable, step, first, last, value):
        """Charted every ``step`` hours in [first, last)."""
        time = first
        while time < last:
            self.chart(variable, time, value)
            time += step
        return self

    def run(self, drug, start, end, rate, late=0.0):
        """An infusion at ``rate`` mcg/kg/min."""
        dose = None if rate is None else rate * 60
        row = {
            "drug": drug,
            "start": at(start),
            "end": at(end),
            "known_at": at(start + late),
            "dose": dose,
        }
        self.treatments.append(row | {"unit": None if dose is None else "mcg/kg"})
        return self

    def dose(self, drug, time, end=None, late=0.0, route=None):
        row = {
            "drug": drug,
            "time": at(time),
            "end": at(time if end is None else end),
            "known_at": at(time + late),
        }
        self.antibiotics.append(
            row | {"route": route, "source": "inputevents_mv", "date_only": False}
        )
        return self

    def order(self, drug, time, days=1, route="intravenous"):
        """An order of which only the days are known."""
        begin = midnight(time)
        row = {
            "drug": drug,
            "time": begin,
            "end": begin + days * DAY,
            "known_at": begin + DAY,
            "route": route,
        }
        self.antibiotics.append(row | {"source": "prescriptions", "date_only": True})
        return self

    def culture(self, time, late=0.0, specimen="BLOOD CULTURE", date_only=False):
        begin = midnight(time) if date_only else at(time)
        known = begin + DAY if date_only else at(time + late)
        row = {"time": begin, "known_at": known, "specimen": specimen, "date_only": date_only}
        self.cultures.append(row)
        return self

    def expected(self, options):
        """(hours, suspicions, episodes) by the oracle."""
        facts = self.stay, self.events, self.treatments
        return (
            oracle.sofa(*facts, options),
            oracle.suspicions(self.stay, self.antibiotics, self.cultures, options),
            oracle.episodes(*facts, self.antibiotics, self.cultures, options),
        )


def frame(rows, schema):
    return pl.DataFrame(rows, schema=schema, orient="row")


def labelled(records: list[Record], options: Sepsis3Options | None = None) -> Sepsis3Labels:
    """The records as one batch."""

    def rows(kind, schema):
        of = [{"stay_id": r.stay["stay_id"]} | row for r in records for row in getattr(r, kind)]
        return pl.DataFrame([{name: row.get(name) for name in schema} for row in of], schema=schema)

    stays = pl.DataFrame(
        [{name: r.stay.get(name) for name in STAYS} for r in records], schema=STAYS
    )
    return label(
        stays,
        rows("events", EVENTS),
        rows("treatments", TREATMENTS),
        rows("antibiotics", ANTIBIOTICS),
        rows("cultures", CULTURES),
        options or Sepsis3Options(),
    )


def agree(records: list[Record], options: Sepsis3Options) -> Sepsis3Labels:
    """Label the records; everything must be as the oracle has it, hour by hour."""
    got = labelled(records, options)
    for record in records:
        stay_id = record.stay["stay_id"]
        hours, suspected, found = record.expected(options)
        mine = got.sofa.filter(stay_id=stay_id).drop("stay_id").to_dicts()
        assert mine == hours
        mine = got.suspicions.filter(stay_id=stay_id)
        assert dict(zip(mine["time"], mine["known_at"], strict=True)) == suspected
        assert got.episodes.filter(stay_id=stay_id).drop("stay_id").rows() == found
    assert got.episodes.schema == EPISODES
    return got
