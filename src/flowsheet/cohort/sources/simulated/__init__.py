"""A simulated ward with a known data-generating process, of any size and reproducible by its seed.

The ground truth comes with it: the true probability of every step, and the effect of every dose.
``docs/simulated-ward.md`` has the equations, the options and what may be concluded from them. The
drugs have the names of real ones, but their effects here are invented.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl

from flowsheet.cohort.schema import TIME
from flowsheet.cohort.sources.base import SOURCES, Source, SourceSize, StayBatch
from flowsheet.cohort.sources.simulated import tables
from flowsheet.cohort.sources.simulated.data_generating_process import (
    DRUGS,
    VARIABLES,
    WardOptions,
)
from flowsheet.cohort.sources.simulated.dynamics import (
    BLOCK,
    compute_effect_kernel,
    draw_patients,
    simulate_trajectory,
)
from flowsheet.cohort.sources.simulated.measurements import draw_events, to_timedelta
from flowsheet.cohort.sources.simulated.oracle import estimate_probabilities
from flowsheet.config import FrozenModel
from flowsheet.state.hashing import digest

_EVENT_BYTES = 12
"""Of an extract, for each of its events; measured with 500 stays of two wards."""


@SOURCES.register("simulated")
class SimulatedWard(Source):
    """Stays drawn from the data-generating process of the options, a block at a time."""

    Options: ClassVar[type[FrozenModel]] = WardOptions
    needs_path: ClassVar[bool] = False
    version: ClassVar[int] = 1
    licence: str = "Apache-2.0 (simulated, no patient's data)"
    variables: tuple[str, ...] = VARIABLES
    drugs: tuple[str, ...] = DRUGS

    def __init__(self, path: Path | None, options: Any) -> None:
        super().__init__(path, options)
        self.responses = (options.response_name,)

    def fingerprint(self) -> str:
        """A digest of the version of the data-generating process, as there is no raw input."""
        return digest(["simulated ward", self.version])

    def estimate_size(self) -> SourceSize:
        """The stays of the options, with their mean length."""
        options = self.options
        steps = (options.min_steps + options.max_steps) / 2
        return SourceSize(options.stays, options.stays * steps * options.step_hours)

    def estimate_bytes(self) -> int:
        """By the number of measurements that the options ask for."""
        options = self.options
        variables = options.variables.values()
        events_a_step = sum(variable.slots * variable.chance for variable in variables)
        steps = self.estimate_size().hours / options.step_hours
        events: float = steps * events_a_step
        return round(events * _EVENT_BYTES)

    def batches(self) -> Iterator[StayBatch]:
        """One batch for each block of stays, in ascending order of stay_id."""
        for block in _blocks(self.options):
            yield _simulate_batch(self.options, block)

    def oracle(self) -> pl.DataFrame:
        """P(septic in the next step | everything up to t(k), including physiology and frailty).

        Columns stay_id, time = t(k) = admission + k steps, probability; one row for each step k =
        1..L of a stay. It serves evaluation only: no table of the extract contains any of it.
        """
        return compute_oracle(self.options).select("stay_id", "time", "probability")


def compute_oracle(options: WardOptions, horizon: int = 1, paths: int = 400) -> pl.DataFrame:
    """The true probability of y(k + horizon), given everything up to t(k).

    Columns stay_id, time = t(k), probability (septic in step k + horizon), probability_within
    (septic in some step of k + 1..k + horizon, the target of a task with that horizon), and the
    standard error of each. For the next step they are exact; further ahead they are unbiased
    estimates from ``paths`` seeded simulations a row. The last rows of a stay refer to steps after
    its end, as if the stay had continued.

    >>> compute_oracle(WardOptions(stays=1, min_steps=3, max_steps=3), horizon=2).columns[2:4]
    ['probability', 'probability_within']
    """
    return pl.concat(_compute_block(options, block, horizon, paths) for block in _blocks(options))


def true_curves(options: WardOptions) -> pl.DataFrame:
    """The effect of a dose on the logit of the next step's response, by steps since the dose.

    Columns drug, lag (0..max_steps - 1; lag 0 is the step after that of the dose), effect (logits
    per unit of the drug given in a step). It is the direct effect: without what the dose causes
    through physiology or through an earlier response.

    >>> curves = true_curves(WardOptions()).filter(drug="propofol").head(2)
    >>> curves.with_columns(pl.col("effect").round(5)).rows()
    [('propofol', 0, 0.0125), ('propofol', 1, 0.00896)]
    """
    kernel = compute_effect_kernel(options)
    lags, drugs = kernel.shape
    return pl.DataFrame(
        {
            "drug": np.repeat(list(options.drugs), lags),
            "lag": np.tile(np.arange(lags), drugs),
            "effect": kernel.T.ravel(),
        }
    )


def compute_dose_effects(options: WardOptions) -> pl.DataFrame:
    """What all doses of a drug so far add to the logit of the next step's response.

    Columns stay_id, step (k, from 1), drug, effect (logits). As in :func:`true_curves`, only the
    direct effect counts.

    >>> compute_dose_effects(WardOptions(stays=1, min_steps=3, max_steps=3)).columns
    ['stay_id', 'step', 'drug', 'effect']
    """
    return pl.concat(_compute_block_effects(options, block) for block in _blocks(options))


def _compute_block_effects(options: WardOptions, block: int) -> pl.DataFrame:
    patients = draw_patients(options, block)
    doses = simulate_trajectory(options, patients, block).doses
    kernel = compute_effect_kernel(options)
    effects = np.zeros_like(doses)
    for lag in range(options.max_steps):
        effects[:, lag:] += doses[:, : options.max_steps - lag] * kernel[lag]
    in_stay = np.arange(options.max_steps) < patients.steps[:, None]
    in_ward = patients.stay_id <= options.stays
    stay, step = np.nonzero(in_stay & in_ward[:, None])
    drugs = len(options.drugs)
    return pl.DataFrame(
        {
            "stay_id": np.repeat(patients.stay_id[stay], drugs),
            "step": np.repeat(step + 1, drugs).astype(np.int32),
            "drug": list(options.drugs) * len(stay),
            "effect": effects[stay, step].ravel(),
        }
    )


def _blocks(options: WardOptions) -> range:
    return range(-(-options.stays // BLOCK))


def _simulate_batch(options: WardOptions, block: int) -> StayBatch:
    patients = draw_patients(options, block)
    trajectory = simulate_trajectory(options, patients, block)
    admitted = tables.draw_admissions(options, patients, block)
    is_in_ward = pl.col("stay_id") <= options.stays
    stays = tables.draw_stays(options, patients, block, admitted).filter(is_in_ward)
    events = draw_events(options, patients, trajectory, block, admitted)
    treatments = tables.draw_treatments(options, patients, trajectory, block, admitted)
    episodes = tables.draw_episodes(options, patients, trajectory, block, admitted)
    return StayBatch(
        stays=stays,
        events=events.filter(is_in_ward),
        treatments=treatments.filter(is_in_ward),
        episodes=episodes.filter(is_in_ward),
        attrition={"simulated": stays.height},
    )


def _compute_block(options: WardOptions, block: int, horizon: int, paths: int) -> pl.DataFrame:
    """The rows of :func:`compute_oracle` for one block."""
    patients = draw_patients(options, block)
    trajectory = simulate_trajectory(options, patients, block)
    probabilities = estimate_probabilities(
        options, patients, trajectory, block, horizon=horizon, paths=paths
    )
    in_stay = np.arange(options.max_steps) < patients.steps[:, None]
    in_ward = patients.stay_id <= options.stays
    stay, step = np.nonzero(in_stay & in_ward[:, None])
    since_admission = to_timedelta((step + 1) * options.step_hours * 60)
    time = tables.draw_admissions(options, patients, block)[stay] + since_admission
    frame = pl.DataFrame(
        {
            "stay_id": patients.stay_id[stay],
            "time": time,
            "probability": probabilities.state[stay, step],
            "probability_within": probabilities.within[stay, step],
            "probability_error": probabilities.state_error[stay, step],
            "probability_within_error": probabilities.within_error[stay, step],
        }
    )
    return frame.cast({"time": TIME})
