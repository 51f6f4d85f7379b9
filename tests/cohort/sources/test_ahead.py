"""Probabilities further ahead than the next step: exact where that can be worked out, calibrated where it cannot."""

from __future__ import annotations

from itertools import product

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from scipy.special import expit

from flowsheet.cohort.sources.simulated import SimulatedWard, oracle
from flowsheet.cohort.sources.simulated import dynamics as _ward
from flowsheet.cohort.sources.simulated.oracle import Ahead, ahead
from flowsheet.cohort.sources.simulated.process import (
    Drug,
    Factor,
    ResponseLaw,
    WardOptions,
)
from flowsheet.cohort.sources.simulated.response_curves import Exponential


def told(options: WardOptions, horizon: int, paths: int = 100) -> tuple[_ward.Course, Ahead]:
    who = _ward.people(options, 0)
    what = _ward.course(options, who, 0)
    return what, ahead(options, who, what, 0, horizon=horizon, paths=paths)


def test_the_next_step_is_exact():
    what, found = told(WardOptions(max_steps=25), 1)
    np.testing.assert_array_equal(found.state, what.probability)
    np.testing.assert_array_equal(found.within, what.probability)
    assert not found.state_error.any()


@pytest.fixture(scope="module")
def still() -> WardOptions:
    """A ward without noise in physiology, where two steps ahead can be enumerated."""
    drug = Drug(
        doses=(4, 8), reference=8, chance=0.3, when_septic=1, effect=2, curve=Exponential(tau=2)
    )
    return WardOptions(
        min_steps=8,
        max_steps=8,
        drugs={"insulin": drug},
        channels={"hr": WardOptions().channels["hr"].model_copy(update={"loads": {}})},
        factors={"inflammation": Factor(memory=0.5, septic=1.0, noise=1e-9)},
        response=ResponseLaw(intercept=-1, persistence=1.5, physiology={"inflammation": 0.7}),
    )


def enumerated(options: WardOptions) -> tuple[np.ndarray, np.ndarray]:
    """P(y(k+2)) and P(y(k+1) or y(k+2)), summed over every response and dose of step k+1."""
    who = _ward.people(options, 0)
    what = _ward.course(options, who, 0)
    law, drug, steps = options.response, options.drugs["insulin"], options.max_steps
    act = _ward.kernel(options, steps + 1)[:, 0]
    given, septic, p = what.doses[..., 0], what.y, what.probability
    state, none = np.zeros_like(p), np.zeros_like(p)
    for k in range(steps):
        before = sum(given[:, j] * act[k - j + 1] for j in range(k + 1))
        offered = expit(np.log(drug.chance / (1 - drug.chance)) + drug.when_septic * septic[:, k])
        for y, dose in product((0, 1), (0.0, *drug.doses)):
            weight = np.where(y, p[:, k], 1 - p[:, k]) * (
                offered / len(drug.doses) if dose else 1 - offered
            )
            z = 0.5 * what.factors[:, k + 1, 0] + y
            rest = _ward.standing(options, who)
            q = expit(rest + law.persistence * y + 0.7 * z + before + dose * act[0])
            state[:, k] += weight * q
            none[:, k] += weight * (1 - q) * (y == 0)
    return state, 1 - none


def test_two_steps_ahead_is_what_enumeration_gives(still: WardOptions):
    _, found = told(still, 2, paths=400)
    state, within = enumerated(still)
    for estimate, error, truth in (
        (found.state, found.state_error, state),
        (found.within, found.within_error, within),
    ):
        assert abs(estimate - truth).max() < 0.08
        assert abs((estimate - truth).mean()) < 3e-4
        assert error.mean() < 0.015


@pytest.mark.parametrize("horizon", [2, 5])
def test_what_comes_is_as_frequent_as_was_said(horizon: int):
    options = WardOptions(stays=500, seed=5, min_steps=24, max_steps=24)
    what, found = told(options, horizon, paths=60)
    seen = options.max_steps - horizon
    later = np.stack([what.y[:, i : i + seen] for i in range(1, horizon + 1)])
    for said, came in ((found.state, later[-1]), (found.within, later.any(axis=0))):
        p, y = said[:, :seen].ravel(), came.ravel()
        for bin_ in np.array_split(np.argsort(p), 5):
            spread = np.sqrt(horizon * (p[bin_] * (1 - p[bin_])).sum()) / len(
                bin_
            )  # overlapping windows repeat
            assert abs(y[bin_].mean() - p[bin_].mean()) < 4 * spread + 1e-3


def test_the_error_is_the_spread_over_other_paths():
    options = WardOptions(max_steps=12, min_steps=5)
    (_, few), (_, many) = told(options, 3, paths=50), told(options, 3, paths=51)
    z = (few.state - many.state) / np.sqrt(few.state_error**2 + many.state_error**2)
    assert (
        0.7 < np.std(z) < 1.15
    )  # the responses are stratified: a little less than independent paths would vary
    assert abs(np.mean(z)) < 0.05


def test_the_table_ahead_has_the_rows_of_the_table_of_the_next_step():
    options = WardOptions(stays=3, min_steps=4, max_steps=9)
    near, far = SimulatedWard(None, options).oracle(), oracle(options, horizon=3, paths=20)
    assert_frame_equal(near.select("stay_id", "time"), far.select("stay_id", "time"))
    assert far["within"].is_between(0, 1).all()
    assert (far["within"] >= far["probability"] - 0.2).all()
    assert_frame_equal(far, oracle(options, horizon=3, paths=20))
    assert_frame_equal(
        far.filter(pl.col("stay_id") <= 2), oracle(options.model_copy(update={"stays": 2}), 3, 20)
    )
