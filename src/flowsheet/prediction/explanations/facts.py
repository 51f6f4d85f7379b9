"""The recorded facts behind a row: the latest measurement of a variable, the latest dose of a drug.

As in the windows, a fact counts from the time at which it was in the record.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from flowsheet.cohort.schema import Tables
from flowsheet.cohort.time_grid import HOUR, microseconds
from flowsheet.typing import Floats, Ints


@dataclass(frozen=True)
class Measurement:
    """A value and its time in microseconds."""

    value: float
    time: int


@dataclass(frozen=True)
class Dose:
    """The latest of some exposures to a drug; times in microseconds."""

    dose: float | None
    """Amount of a single dose, amount per hour of an infusion; None: not recorded."""
    unit: str | None
    start: int
    end: int
    exposures: int
    """How many are known, this one included."""

    @property
    def is_infusion(self) -> bool:
        """Whether it lasted."""
        return self.end > self.start


@dataclass(frozen=True)
class _Facts:
    known: Ints  # when each was true and in the record
    time: Ints
    frame: pl.DataFrame


class RecordedFacts:
    """The events and treatments of some stays, for look-ups by stay, name and time."""

    def __init__(self, tables: Tables, stay_ids: Ints) -> None:
        in_stays = pl.col("stay_id").is_in(np.unique(stay_ids).tolist())
        events = tables.events.filter(
            in_stays & pl.col("value").is_not_null() & pl.col("value").is_not_nan()
        ).sort("time", "known_at", "value")
        self._events = _partition(events, "variable", "time")
        treatments = tables.treatments.filter(in_stays).sort("start", "end", "known_at", "dose")
        self._treatments = _partition(treatments, "drug", "start")
        stays = tables.stays.filter(in_stays)
        self._stays = {row["stay_id"]: row for row in stays.iter_rows(named=True)}

    def measurement(self, stay_id: int, variable: str, time: int) -> Measurement | None:
        """The latest value that was known at the time (microseconds); None before the first."""
        facts = self._events.get((stay_id, variable))
        if facts is None:
            return None
        known = np.flatnonzero(facts.known <= time)
        if not len(known):
            return None
        latest = int(known[-1])
        return Measurement(float(facts.frame["value"][latest]), int(facts.time[latest]))

    def dose(self, stay_id: int, drug: str, time: int) -> Dose | None:
        """The latest exposure that was known at the time; None before the first."""
        facts = self._treatments.get((stay_id, drug))
        if facts is None:
            return None
        known = np.flatnonzero(facts.known <= time)
        if not len(known):
            return None
        until = np.minimum(microseconds(facts.frame["end"]), time)[known]
        latest = int(known[np.flatnonzero(until == until.max())[-1]])
        row = facts.frame.row(latest, named=True)
        end = int(microseconds(facts.frame["end"])[latest])
        return Dose(row["dose"], row["unit"], int(facts.time[latest]), end, len(known))

    def static(self, stay_id: int, name: str) -> Any:
        """A column of the stays, or ``hours_in_hospital`` before the admission to the unit."""
        stay = self._stays[stay_id]
        if name != "hours_in_hospital":
            return stay[name]
        if stay["hospital_admitted_at"] is None:
            return None
        return (stay["admitted_at"] - stay["hospital_admitted_at"]).total_seconds() / 3600


def _partition(frame: pl.DataFrame, name: str, time: str) -> dict[tuple[Any, ...], _Facts]:
    parts = frame.partition_by("stay_id", name, as_dict=True, maintain_order=True)
    facts = {}
    for key, part in parts.items():
        times: Floats | Ints = microseconds(part[time])
        known = np.maximum(times, microseconds(part["known_at"]))
        facts[key] = _Facts(known, np.asarray(times, np.int64), part)
    return facts


def hours_between(start: int, end: int) -> float:
    """Hours between two times in microseconds."""
    return (end - start) / HOUR
