"""Probabilities several steps ahead: exact where they can be enumerated, calibrated elsewhere."""

from __future__ import annotations

from itertools import product

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from scipy.special import expit, logit

from flowsheet.cohort.sources.simulated import SimulatedWard, compute_oracle
from flowsheet.cohort.sources.simulated.data_generating_process import (
    PhysiologyFactor,
    ResponseModel,
    SimulatedDrug,
    WardOptions,
)
from flowsheet.cohort.sources.simulated.dynamics import (
    Trajectory,
    compute_baseline_logits,
    compute_effect_kernel,
    draw_patients,
    simulate_trajectory,
)
from flowsheet.cohort.sources.simulated.oracle import OracleProbabilities, estimate_probabilities
from flowsheet.cohort.sources.simulated.response_curves import Exponential


def estimate(
    options: WardOptions, horizon: int, paths: int = 100
) -> tuple[Trajectory, OracleProbabilities]:
    """The first block, and its probabilities ``horizon`` steps ahead."""
    patients = draw_patients(options, 0)
    trajectory = simulate_trajectory(options, patients, 0)
    probabilities = estimate_probabilities(
        options, patients, trajectory, 0, horizon=horizon, paths=paths
    )
    return trajectory, probabilities


def test_the_next_step_is_exact():
    trajectory, oracle = estimate(WardOptions(max_steps=25), horizon=1)
    np.testing.assert_array_equal(oracle.state, trajectory.probability)
    np.testing.assert_array_equal(oracle.within, trajectory.probability)
    assert not oracle.state_error.any()


@pytest.fixture(scope="module")
def noiseless() -> WardOptions:
    """A ward without noise in the physiology, where two steps ahead can be enumerated."""
    drug = SimulatedDrug(
        doses=(4, 8), reference=8, chance=0.3, when_septic=1, effect=2, curve=Exponential(tau=2)
    )
    heart_rate = WardOptions().variables["hr"].model_copy(update={"loadings": {}})
    return WardOptions(
        min_steps=8,
        max_steps=8,
        drugs={"insulin": drug},
        variables={"hr": heart_rate},
        factors={"inflammation": PhysiologyFactor(memory=0.5, septic=1.0, noise=1e-9)},
        response=ResponseModel(intercept=-1, persistence=1.5, physiology={"inflammation": 0.7}),
    )


def enumerate_two_steps(options: WardOptions) -> tuple[np.ndarray, np.ndarray]:
    """P(y(k+2)) and P(y(k+1) or y(k+2)), summed over every response and dose of step k+1."""
    patients = draw_patients(options, 0)
    trajectory = simulate_trajectory(options, patients, 0)
    drug = options.drugs["insulin"]
    kernel = compute_effect_kernel(options, options.max_steps + 1)[:, 0]
    baseline = compute_baseline_logits(options, patients)
    p = trajectory.probability
    state = np.zeros_like(p)
    no_event = np.zeros_like(p)
    for k in range(options.max_steps):
        past_doses = sum(trajectory.doses[:, j, 0] * kernel[k - j + 1] for j in range(k + 1))
        is_given = expit(logit(drug.chance) + drug.when_septic * trajectory.y[:, k])
        for y, dose in product((0, 1), (0.0, *drug.doses)):
            weight = np.where(y, p[:, k], 1 - p[:, k])
            weight = weight * (is_given / len(drug.doses) if dose else 1 - is_given)
            z = 0.5 * trajectory.factors[:, k + 1, 0] + y
            persistence = options.response.persistence * y
            q = expit(baseline + persistence + 0.7 * z + past_doses + dose * kernel[0])
            state[:, k] += weight * q
            no_event[:, k] += weight * (1 - q) * (y == 0)
    return state, 1 - no_event


def test_two_steps_ahead_equals_the_enumeration(noiseless: WardOptions):
    _, oracle = estimate(noiseless, horizon=2, paths=400)
    state, within = enumerate_two_steps(noiseless)
    for estimated, error, exact in (
        (oracle.state, oracle.state_error, state),
        (oracle.within, oracle.within_error, within),
    ):
        assert abs(estimated - exact).max() < 0.08
        assert abs((estimated - exact).mean()) < 3e-4
        assert error.mean() < 0.015


@pytest.mark.parametrize("horizon", [2, 5])
def test_responses_are_as_frequent_as_their_probabilities(horizon: int):
    options = WardOptions(stays=500, seed=5, min_steps=24, max_steps=24)
    trajectory, oracle = estimate(options, horizon, paths=60)
    steps = options.max_steps - horizon
    later = np.stack([trajectory.y[:, i : i + steps] for i in range(1, horizon + 1)])
    for estimated, observed in ((oracle.state, later[-1]), (oracle.within, later.any(axis=0))):
        p = estimated[:, :steps].ravel()
        y = observed.ravel()
        for quintile in np.array_split(np.argsort(p), 5):
            variance = (p[quintile] * (1 - p[quintile])).sum()
            # neighbouring rows share responses, as their windows overlap
            error = np.sqrt(horizon * variance) / len(quintile)
            assert abs(y[quintile].mean() - p[quintile].mean()) < 4 * error + 1e-3


def test_the_standard_error_is_the_spread_between_two_estimates():
    options = WardOptions(max_steps=12, min_steps=5)
    _, one = estimate(options, 3, paths=50)
    _, other = estimate(options, 3, paths=51)
    z = (one.state - other.state) / np.sqrt(one.state_error**2 + other.state_error**2)
    # stratified responses vary a little less than independent ones would
    assert 0.7 < np.std(z) < 1.15
    assert abs(np.mean(z)) < 0.05


def test_the_oracle_has_the_same_rows_for_every_horizon():
    options = WardOptions(stays=3, min_steps=4, max_steps=9)
    next_step = SimulatedWard(None, options).oracle()
    ahead = compute_oracle(options, horizon=3, paths=20)
    assert_frame_equal(next_step.select("stay_id", "time"), ahead.select("stay_id", "time"))
    assert ahead["probability_within"].is_between(0, 1).all()
    assert (ahead["probability_within"] >= ahead["probability"] - 0.2).all()


def test_the_oracle_is_reproducible_and_independent_of_later_stays():
    options = WardOptions(stays=3, min_steps=4, max_steps=9)
    ahead = compute_oracle(options, horizon=3, paths=20)
    assert_frame_equal(ahead, compute_oracle(options, horizon=3, paths=20))
    fewer = options.model_copy(update={"stays": 2})
    assert_frame_equal(ahead.filter(pl.col("stay_id") <= 2), compute_oracle(fewer, 3, 20))
