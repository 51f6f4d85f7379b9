"""Charted events measured from the latent physiology: irregular, rounded and late.

Septic patients are measured more often.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import expit, logit

from flowsheet.cohort import catalogue
from flowsheet.cohort.schema import EVENTS
from flowsheet.cohort.sources.simulated.data_generating_process import (
    MeasuredVariable,
    WardOptions,
)
from flowsheet.cohort.sources.simulated.dynamics import BLOCK, Patients, Trajectory, make_rng
from flowsheet.typing import AnyArray, Bools, Floats, Ints, Times

MINUTE = 60_000_000
"""In microseconds."""


def draw_events(
    options: WardOptions, patients: Patients, trajectory: Trajectory, block: int, admitted: Times
) -> pl.DataFrame:
    """Draw the events of a block, in the columns and the order of the contract.

    Args:
        options: The ward.
        patients: The S patients of the block.
        trajectory: What happened to them.
        block: Number of the block, from 0.
        admitted: Admission of each stay, shape (S,).
    """
    rng = make_rng(options, block, "measurements")
    in_stay = np.arange(options.max_steps) < patients.steps[:, None]
    parts = []
    for code, (name, variable) in enumerate(options.variables.items()):
        part = _draw_measurements(options, variable, trajectory, in_stay, rng)
        limits = catalogue.variable(name)
        part["value"] = part["value"].clip(limits.low, limits.high)
        part["variable"] = np.full(len(part["value"]), code)
        parts.append(part)
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    alphabetical = np.argsort(np.argsort(list(options.variables)))
    order = np.lexsort((alphabetical[columns["variable"]], columns["minute"], columns["stay"]))
    columns = {name: values[order] for name, values in columns.items()}
    start = admitted[columns["stay"]]
    names = pl.Series("variable", list(options.variables))
    return pl.DataFrame(
        {
            "stay_id": patients.stay_id[columns["stay"]],
            "time": start + to_timedelta(columns["minute"]),
            "known_at": start + to_timedelta(columns["minute"] + columns["delay"]),
            "variable": names.gather(columns["variable"]),
            "value": columns["value"],
        },
        schema=EVENTS,
    )


def to_timedelta(minutes: Ints) -> NDArray[np.timedelta64]:
    """Whole minutes as durations."""
    return (minutes * MINUTE).astype("timedelta64[us]")


def _draw_measurements(
    options: WardOptions,
    variable: MeasuredVariable,
    trajectory: Trajectory,
    in_stay: Bools,
    rng: np.random.Generator,
) -> dict[str, AnyArray]:
    """The measurements of one variable: stay, minute since admission, delay in minutes, value."""
    shape = (BLOCK, options.max_steps, variable.slots)
    logits = logit(variable.chance) + variable.when_septic * trajectory.y
    is_measured = rng.random(shape) < expit(logits)[..., None]
    time_draws = rng.random(shape)
    errors = rng.standard_normal(shape)
    delay_draws = rng.random(shape)
    stay, step, slot = np.nonzero(is_measured & in_stay[..., None])
    at = (stay, step, slot)
    step_minutes = options.step_hours * 60
    slot_minutes = step_minutes // variable.slots
    # in 1..step_minutes, because step k is (t(k-1), t(k)]
    minute = slot * slot_minutes + 1 + (time_draws[at] * slot_minutes).astype(np.int64)
    share = minute / step_minutes
    loadings = np.array([variable.loadings.get(name, 0.0) for name in options.factors])
    signal = trajectory.factors @ loadings  # (S, T + 1), linear between the ends of the steps
    level = variable.base + (1 - share) * signal[stay, step] + share * signal[stay, step + 1]
    low, high = variable.delay_hours
    return {
        "stay": stay,
        "minute": step * step_minutes + minute,
        "delay": ((low + (high - low) * delay_draws[at]) * 60).astype(np.int64),
        "value": _to_charted_value(variable, level + variable.noise * errors[at]),
    }


def _to_charted_value(variable: MeasuredVariable, level: Floats) -> Floats:
    """The value on its own scale, with the decimals that are charted."""
    value = np.exp(np.minimum(level, 50)) if variable.log else level
    return np.asarray(value.round(variable.decimals))
