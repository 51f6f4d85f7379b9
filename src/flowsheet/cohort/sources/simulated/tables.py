"""The contract's stays, treatments and episodes of a simulated block."""

from __future__ import annotations

import numpy as np
import polars as pl

from flowsheet.cohort import catalogue
from flowsheet.cohort.schema import EPOCH, TREATMENTS, to_contract
from flowsheet.cohort.sources.simulated.data_generating_process import WardOptions
from flowsheet.cohort.sources.simulated.dynamics import BLOCK, Patients, Trajectory, make_rng
from flowsheet.cohort.sources.simulated.measurements import to_timedelta
from flowsheet.typing import Floats, Times

ARRIVAL_MINUTES = 180
"""Between the first admissions of one subject and of the next."""


def draw_admissions(options: WardOptions, patients: Patients, block: int) -> Times:
    """Admission of each stay, shape (S,); a second stay begins weeks after the end of the first."""
    gap = make_rng(options, block, "admissions").integers(7, 90, BLOCK) * 24 * 60
    end_of_first = (patients.steps * options.step_hours * 60)[patients.first]
    is_second = patients.first != np.arange(BLOCK)
    arrival = patients.stay_id[patients.first] * ARRIVAL_MINUTES
    minutes = arrival + np.where(is_second, end_of_first + gap, 0)
    return np.datetime64(EPOCH, "us") + to_timedelta(minutes)


def draw_stays(
    options: WardOptions, patients: Patients, block: int, admitted: Times
) -> pl.DataFrame:
    """Draw the table of stays, one row for each.

    Args:
        options: The ward.
        patients: The S patients of the block.
        block: Number of the block, from 0.
        admitted: Admission of each stay, shape (S,).
    """
    rng = make_rng(options, block, "body_measures")
    minutes_in_hospital = rng.integers(0, 72, BLOCK) * 60
    height = rng.normal(np.where(patients.male, 176, 163), 7).round()[patients.first]
    weight = rng.normal(80, 14, BLOCK).clip(40, 160).round(1)[patients.first]
    is_elective = rng.random(BLOCK) < 0.2
    stays = pl.DataFrame(
        {
            "stay_id": patients.stay_id,
            "subject_id": patients.stay_id[patients.first],
            "site": [options.site] * BLOCK,
            "hospital_admitted_at": admitted - to_timedelta(minutes_in_hospital),
            "admitted_at": admitted,
            "discharged_at": admitted + to_timedelta(patients.steps * options.step_hours * 60),
            "age": patients.age,
            "sex": np.where(patients.male, "M", "F"),
            "height_cm": height,
            "weight_kg": weight,
            "unit": np.array(list(options.units))[patients.unit],
            "admission_type": np.where(is_elective, "elective", "emergency"),
        }
    )
    return to_contract("stays", stays)


def draw_treatments(
    options: WardOptions, patients: Patients, trajectory: Trajectory, block: int, admitted: Times
) -> pl.DataFrame:
    """Draw one treatment for each dose, inside its step and known at its start.

    Args:
        options: The ward.
        patients: The S patients of the block.
        trajectory: What happened to them.
        block: Number of the block, from 0.
        admitted: Admission of each stay, shape (S,).
    """
    step_minutes = options.step_hours * 60
    in_stay = np.arange(options.max_steps) < patients.steps[:, None]
    draws = make_rng(options, block, "treatment_times").random(trajectory.doses.shape)
    stay, step, drug = np.nonzero((trajectory.doses > 0) & in_stay[..., None])
    durations = [int((d.infusion_share or 0) * step_minutes) for d in options.drugs.values()]
    duration = np.array(durations)[drug]
    wait = (draws[stay, step, drug] * (step_minutes - duration - 1)).astype(np.int64)
    start = admitted[stay] + to_timedelta(step * step_minutes + 1 + wait)
    amount = trajectory.doses[stay, step, drug]
    units = [catalogue.drug(name).unit for name in options.drugs]
    frame = pl.DataFrame(
        {
            "stay_id": patients.stay_id[stay],
            "drug": np.array(list(options.drugs))[drug],
            "start": start,
            "end": start + to_timedelta(duration),
            "known_at": start,
            "dose": np.where(duration > 0, amount * 60 / np.maximum(duration, 1), amount),
            "unit": np.array(units)[drug],
        },
        schema=TREATMENTS,
    )
    return frame.sort("stay_id", "start", "drug", maintain_order=True)


def draw_episodes(
    options: WardOptions, patients: Patients, trajectory: Trajectory, block: int, admitted: Times
) -> pl.DataFrame:
    """Draw one episode for each run of septic steps.

    The onset is strictly inside the first septic step and the end strictly inside the last one, so
    the steps (t(k-1), t(k)] that an episode overlaps are exactly the septic ones. A run that
    reaches the end of the stay has no end. The episode is known at the end of its first step, plus
    the declared delay.

    Args:
        options: The ward.
        patients: The S patients of the block.
        trajectory: What happened to them.
        block: Number of the block, from 0.
        admitted: Admission of each stay, shape (S,).
    """
    step_minutes = options.step_hours * 60
    onset_draws, end_draws = make_rng(options, block, "episode_times").random(
        (2, *trajectory.y.shape)
    )
    is_septic = trajectory.y & (np.arange(options.max_steps) < patients.steps[:, None])
    edges = np.diff(is_septic.astype(np.int8), axis=1, prepend=0, append=0)
    stay, first = np.nonzero(edges == 1)
    last = np.nonzero(edges == -1)[1] - 1  # row by row, starts and ends have the same order
    onset_share = _rescale(onset_draws[stay, first], 0.1, 0.85)
    lowest_end = np.where(first == last, onset_share + 0.05, 0.1)
    end_share = _rescale(end_draws[stay, last], lowest_end, 0.95)
    onset = admitted[stay] + to_timedelta(((first + onset_share) * step_minutes).astype(np.int64))
    end = admitted[stay] + to_timedelta(((last + end_share) * step_minutes).astype(np.int64))
    has_end = last + 1 < patients.steps[stay]
    known = (first + 1) * step_minutes + round(options.known_delay_hours * 60)
    episodes = pl.DataFrame(
        {
            "stay_id": patients.stay_id[stay],
            "response": options.response_name,
            "onset": onset,
            "end": np.where(has_end, end, np.datetime64("NaT")),
            "known_at": admitted[stay] + to_timedelta(known),
        }
    )
    return to_contract("episodes", episodes)


def _rescale(share: Floats, low: float | Floats, high: float) -> Floats:
    """A share of the unit interval as a share of [low, high]."""
    return low + (high - low) * share
