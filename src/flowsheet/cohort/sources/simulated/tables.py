"""From a block's course to the contract's stays, treatments and episodes."""

from __future__ import annotations

import numpy as np
import polars as pl

from flowsheet.cohort import catalogue
from flowsheet.cohort.schema import EPISODES, EPOCH, STAYS, TREATMENTS
from flowsheet.cohort.sources.simulated.dynamics import (
    BLOCK,
    Course,
    People,
    stream,
)
from flowsheet.cohort.sources.simulated.measurements import minutes
from flowsheet.cohort.sources.simulated.process import WardOptions
from flowsheet.typing import Floats, Times

ARRIVALS_MINUTES = 180
"""Between one subject's first admission and the next one's."""


def admissions(options: WardOptions, who: People, block: int) -> Times:
    """When each stay of the block begins, shape (S,); a second stay begins weeks after the first has ended."""
    gap = stream(options, block, "arrivals").integers(7, 90, BLOCK) * 24 * 60
    ended = (who.steps * options.step_hours * 60)[who.first]
    again = who.first != np.arange(BLOCK)
    arrival = who.stay_id[who.first] * ARRIVALS_MINUTES
    return np.datetime64(EPOCH, "us") + minutes(arrival + np.where(again, ended + gap, 0))


def stays(options: WardOptions, who: People, block: int, admitted: Times) -> pl.DataFrame:
    """One row a stay."""
    rng = stream(options, block, "bodies")
    before = rng.integers(0, 72, BLOCK) * 60
    height = rng.normal(np.where(who.male, 176, 163), 7).round()[who.first]
    weight = rng.normal(80, 14, BLOCK).clip(40, 160).round(1)[who.first]
    elective = rng.random(BLOCK) < 0.2
    return pl.DataFrame(
        {
            "stay_id": who.stay_id,
            "subject_id": who.stay_id[who.first],
            "site": [options.site] * BLOCK,
            "hospital_admitted_at": admitted - minutes(before),
            "admitted_at": admitted,
            "observed_from": [None] * BLOCK,
            "discharged_at": admitted + minutes(who.steps * options.step_hours * 60),
            "age": who.age,
            "sex": np.where(who.male, "M", "F"),
            "height_cm": height,
            "weight_kg": weight,
            "unit": np.array(list(options.units))[who.unit],
            "admission_type": np.where(elective, "elective", "emergency"),
        },
        schema=STAYS,
    )


def treatments(
    options: WardOptions, who: People, what: Course, block: int, admitted: Times
) -> pl.DataFrame:
    """One row a dose, each begun and ended within its step, known when it begins."""
    length = options.step_hours * 60
    inside = np.arange(options.max_steps) < who.steps[:, None]
    wait = stream(options, block, "timing").random(what.doses.shape)
    stay, step, drug = np.nonzero((what.doses > 0) & inside[..., None])
    runs = np.array([int((d.infusion_share or 0) * length) for d in options.drugs.values()])[drug]
    minute = step * length + 1 + (wait[stay, step, drug] * (length - runs - 1)).astype(np.int64)
    start = admitted[stay] + minutes(minute)
    amount = what.doses[stay, step, drug]
    frame = pl.DataFrame(
        {
            "stay_id": who.stay_id[stay],
            "drug": np.array(list(options.drugs))[drug],
            "start": start,
            "end": start + minutes(runs),
            "known_at": start,
            "dose": np.where(runs > 0, amount * 60 / np.maximum(runs, 1), amount),
            "unit": np.array([catalogue.drug(name).unit for name in options.drugs])[drug],
        },
        schema=TREATMENTS,
    )
    return frame.sort("stay_id", "start", "drug", maintain_order=True)


def episodes(
    options: WardOptions, who: People, what: Course, block: int, admitted: Times
) -> pl.DataFrame:
    """One row a run of septic steps.

    Onset lies strictly inside the first septic step and the end strictly inside the last one, so
    that the steps (t(k-1), t(k)] that an episode overlaps are exactly the septic ones. A run that
    reaches the end of the stay has no end. The record knows of it at the end of its first step,
    plus the declared delay.
    """
    length = options.step_hours * 60
    begin, wane = stream(options, block, "episodes").random((2, *what.y.shape))
    y = what.y & (np.arange(options.max_steps) < who.steps[:, None])
    edge = np.diff(y.astype(np.int8), axis=1, prepend=0, append=0)
    stay, first = np.nonzero(edge == 1)
    last = np.nonzero(edge == -1)[1] - 1  # row by row, runs begin and end in the same order
    onset = _within(begin[stay, first], 0.1, 0.85)
    ended = _within(wane[stay, last], np.where(first == last, onset + 0.05, 0.1), 0.95)
    over = last + 1 < who.steps[stay]
    end = admitted[stay] + minutes(((last + ended) * length).astype(np.int64))
    known = (first + 1) * length + round(options.known_delay_hours * 60)
    return pl.DataFrame(
        {
            "stay_id": who.stay_id[stay],
            "onset": admitted[stay] + minutes(((first + onset) * length).astype(np.int64)),
            "end": np.where(over, end, np.datetime64("NaT")),
            "known_at": admitted[stay] + minutes(known),
        },
        schema=EPISODES,
    )


def _within(share: Floats, low: float | Floats, high: float) -> Floats:
    """A share of the unit interval as a share of [low, high]."""
    return low + (high - low) * share
