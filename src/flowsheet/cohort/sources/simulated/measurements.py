"""From hidden physiology to charted events: irregular, rounded, late, and more often when it matters."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import expit, logit

from flowsheet.cohort.catalogue import variable
from flowsheet.cohort.schema import EVENTS
from flowsheet.cohort.sources.simulated.dynamics import (
    BLOCK,
    Course,
    People,
    stream,
)
from flowsheet.cohort.sources.simulated.process import Channel, WardOptions
from flowsheet.typing import AnyArray, Bools, Floats, Ints, Times

MICROSECONDS = 60_000_000


def events(
    options: WardOptions, who: People, what: Course, block: int, admitted: Times
) -> pl.DataFrame:
    """The events of a block's stays, in the contract's columns and order."""
    rng = stream(options, block, "readings")
    inside = np.arange(options.max_steps) < who.steps[:, None]
    parts = []
    for code, (name, channel) in enumerate(options.channels.items()):
        part = _readings(options, channel, what, inside, rng)
        part["value"] = part["value"].clip(variable(name).low, variable(name).high)
        parts.append({**part, "variable": np.full(len(part["value"]), code)})
    column = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    rank = np.argsort(np.argsort(list(options.channels)))
    order = np.lexsort((rank[column["variable"]], column["minute"], column["stay"]))
    column = {name: values[order] for name, values in column.items()}
    start = admitted[column["stay"]]
    names = pl.Series("variable", list(options.channels))
    return pl.DataFrame(
        {
            "stay_id": who.stay_id[column["stay"]],
            "time": start + minutes(column["minute"]),
            "known_at": start + minutes(column["minute"] + column["delay"]),
            "variable": names.gather(column["variable"]),
            "value": column["value"],
        },
        schema=EVENTS,
    )


def minutes(number: Ints) -> NDArray[np.timedelta64]:
    """Whole minutes as a span of time."""
    return (number * MICROSECONDS).astype("timedelta64[us]")


def _readings(
    options: WardOptions,
    channel: Channel,
    what: Course,
    inside: Bools,
    rng: np.random.Generator,
) -> dict[str, AnyArray]:
    """One variable's readings: who, when (minutes since admission), how late, and the value."""
    shape = (BLOCK, options.max_steps, channel.slots)
    taken = (
        rng.random(shape) < expit(logit(channel.chance) + channel.when_septic * what.y)[..., None]
    )
    wait, error, late = rng.random(shape), rng.standard_normal(shape), rng.random(shape)
    stay, step, slot = np.nonzero(taken & inside[..., None])
    at = (stay, step, slot)
    width = options.step_hours * 60 // channel.slots
    minute = (
        slot * width + 1 + (wait[at] * width).astype(np.int64)
    )  # in 1..step, as step k is (t(k-1), t(k)]
    share = minute / (options.step_hours * 60)
    loads = np.array([channel.loads.get(factor, 0.0) for factor in options.factors])
    signal = what.factors @ loads  # (S, T + 1), between steps along a straight line
    level = channel.base + (1 - share) * signal[stay, step] + share * signal[stay, step + 1]
    low, high = channel.delay_hours
    return {
        "stay": stay,
        "minute": step * options.step_hours * 60 + minute,
        "delay": ((low + (high - low) * late[at]) * 60).astype(np.int64),
        "value": _charted(channel, level + channel.noise * error[at]),
    }


def _charted(channel: Channel, level: Floats) -> Floats:
    """As a nurse or a laboratory would write it."""
    value = np.exp(np.minimum(level, 50)) if channel.log else level
    return np.asarray(value.round(channel.decimals))
