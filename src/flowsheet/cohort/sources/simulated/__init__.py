"""A simulated ward with a known law: any size, seeded, and with the law's own probabilities beside
it.

Equations, parameters and what may be concluded from them: ``docs/simulated-ward.md``. The drugs
bear the names of real ones; their effects here are invented.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import polars as pl

from flowsheet.cohort.schema import TIME
from flowsheet.cohort.sources.base import SOURCES, Source, StayBatch
from flowsheet.cohort.sources.simulated import dynamics as _ward
from flowsheet.cohort.sources.simulated import measurements as _readings
from flowsheet.cohort.sources.simulated import tables as _records
from flowsheet.cohort.sources.simulated.oracle import ahead
from flowsheet.cohort.sources.simulated.process import DRUGS, VARIABLES, WardOptions
from flowsheet.config import FrozenModel
from flowsheet.state.hashing import digest


@SOURCES.register("simulated")
class SimulatedWard(Source):
    """Stays drawn from the law that the options describe, a block of stays at a time."""

    Options: ClassVar[type[FrozenModel]] = WardOptions
    needs_path: ClassVar[bool] = False
    version: ClassVar[int] = 1
    licence: str = "Apache-2.0 (simulated, no patient's data)"
    variables: tuple[str, ...] = VARIABLES
    drugs: tuple[str, ...] = DRUGS

    def fingerprint(self) -> str:
        """There is no raw input: the digest of the law's version."""
        return digest(["simulated ward", self.version])

    def batches(self) -> Iterator[StayBatch]:
        """One batch a block of stays, in ascending order of stay_id."""
        for block in _blocks(self.options):
            yield _batch(self.options, block)

    def oracle(self) -> pl.DataFrame:
        """P(septic in the next step | everything up to t(k), hidden physiology and frailty
        included).

        Columns stay_id, time = t(k) = admission + k steps, probability; one row for each step k =
        1..L of a stay. It is for judging, never for learning: no table of the extract holds any of
        it.
        """
        return oracle(self.options).select("stay_id", "time", "probability")


def oracle(options: WardOptions, horizon: int = 1, paths: int = 400) -> pl.DataFrame:
    """The law's probability of y(k + horizon), given everything up to t(k).

    Columns stay_id, time = t(k), probability (septic in step k + horizon), within (septic in some
    step of k + 1..k + horizon, which is what a task of that horizon asks), and the standard error
    of each. For the next step they are exact; further ahead they come from ``paths`` seeded futures
    a row, unbiased. The last rows of a stay speak of steps after its end, had it gone on.

    >>> oracle(WardOptions(stays=1, min_steps=3, max_steps=3), horizon=2).columns[2:]
    ['probability', 'within', 'probability_error', 'within_error']
    """
    return pl.concat(_oracle(options, block, horizon, paths) for block in _blocks(options))


def true_curves(options: WardOptions) -> pl.DataFrame:
    """What a dose does to the logit of the next step's response, by the steps since it was given.

    Columns drug, lag (0..max_steps - 1; lag 0 is the step that follows the dose's own), effect
    (logits per unit of the drug given in a step). It is the direct effect: what comes through
    physiology or an earlier response is apart.

    >>> true_curves(WardOptions()).filter(drug="propofol").head(2).with_columns(pl.col("effect").round(5)).rows()
    [('propofol', 0, 0.0125), ('propofol', 1, 0.00896)]
    """
    kernel = _ward.kernel(options)
    lags, drugs = kernel.shape
    return pl.DataFrame(
        {
            "drug": np.repeat(list(options.drugs), lags),
            "lag": np.tile(np.arange(lags), drugs),
            "effect": kernel.T.ravel(),
        }
    )


def _blocks(options: WardOptions) -> range:
    return range(-(-options.stays // _ward.BLOCK))


def _batch(options: WardOptions, block: int) -> StayBatch:
    who = _ward.people(options, block)
    what = _ward.course(options, who, block)
    admitted = _records.admissions(options, who, block)
    tables = {
        "stays": _records.stays(options, who, block, admitted),
        "events": _readings.events(options, who, what, block, admitted),
        "treatments": _records.treatments(options, who, what, block, admitted),
        "episodes": _records.episodes(options, who, what, block, admitted),
    }
    kept = {
        name: table.filter(pl.col("stay_id") <= options.stays) for name, table in tables.items()
    }
    return StayBatch(
        stays=kept["stays"],
        events=kept["events"],
        treatments=kept["treatments"],
        episodes=kept["episodes"],
        attrition={"simulated": kept["stays"].height},
    )


def _oracle(options: WardOptions, block: int, horizon: int, paths: int) -> pl.DataFrame:
    who = _ward.people(options, block)
    told = ahead(
        options, who, _ward.course(options, who, block), block, horizon=horizon, paths=paths
    )
    inside = (np.arange(options.max_steps) < who.steps[:, None]) & (who.stay_id <= options.stays)[
        :, None
    ]
    stay, step = np.nonzero(inside)
    time = _records.admissions(options, who, block)[stay] + _readings.minutes(
        (step + 1) * options.step_hours * 60
    )
    frame = pl.DataFrame(
        {
            "stay_id": who.stay_id[stay],
            "time": time,
            "probability": told.state[stay, step],
            "within": told.within[stay, step],
            "probability_error": told.state_error[stay, step],
            "within_error": told.within_error[stay, step],
        }
    )
    return frame.cast({"time": TIME})
