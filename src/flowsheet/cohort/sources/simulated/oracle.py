"""The oracle more than one step ahead: probabilities under the data-generating process.

P(y(k + h) = 1 | past) is an expectation over the doses, the physiology and the responses of the h -
1 steps between. It is estimated from seeded simulations that start at the exact state at t(k). Each
simulation contributes the process's own probability of the last step instead of a random response,
and the responses of the steps between are stratified over the simulations. Both reduce the variance
and leave the estimates unbiased.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from flowsheet.cohort.sources.simulated import dynamics
from flowsheet.cohort.sources.simulated.data_generating_process import WardOptions
from flowsheet.cohort.sources.simulated.dynamics import Patients, Trajectory
from flowsheet.typing import Bools, Floats


@dataclass(frozen=True)
class OracleProbabilities:
    """Probabilities h steps ahead of every step k of a block, shape (S, T).

    Errors are standard errors of the simulation, 0 where a probability is exact.
    """

    state: Floats  # P(septic in step k + h | past)
    within: Floats  # P(septic in some step of k + 1..k + h | past)
    state_error: Floats
    within_error: Floats


def estimate_probabilities(
    options: WardOptions,
    patients: Patients,
    trajectory: Trajectory,
    block: int,
    *,
    horizon: int,
    paths: int,
) -> OracleProbabilities:
    """Estimate the probabilities ``horizon`` steps ahead; for the next step they are exact.

    Args:
        options: The ward.
        patients: The S patients of the block.
        trajectory: What happened to them in T steps.
        block: Number of the block, from 0.
        horizon: Steps ahead, from 1.
        paths: Simulated futures for each stay and step.
    """
    exact = trajectory.probability
    if horizon == 1:
        return OracleProbabilities(exact, exact, np.zeros_like(exact), np.zeros_like(exact))
    rng = dynamics.make_rng(options, block, "oracle")
    baseline = dynamics.compute_baseline_logits(options, patients)
    past_doses = _compute_past_dose_logits(options, trajectory, horizon)
    means = np.empty((2, *exact.shape))
    errors = np.empty((2, *exact.shape))
    for k in range(options.max_steps):
        futures = _Futures(options, baseline, trajectory, past_doses, k=k, paths=paths)
        last_probability = futures.simulate(rng, horizon, stay_well=False)[0]
        no_event = futures.simulate(rng, horizon, stay_well=True)[1]
        for i, sample in enumerate((last_probability, 1 - no_event)):
            means[i, :, k] = sample.mean(axis=1)
            errors[i, :, k] = sample.std(axis=1, ddof=1) / np.sqrt(paths)
    return OracleProbabilities(means[0], means[1], errors[0], errors[1])


def _compute_past_dose_logits(options: WardOptions, trajectory: Trajectory, horizon: int) -> Floats:
    """Logits from the doses up to step k, i steps later; shape (h, S, T), row 0 is unused."""
    kernel = dynamics.compute_effect_kernel(options, options.max_steps + horizon)
    logits = np.zeros((horizon, *trajectory.probability.shape))
    for lag in range(options.max_steps):
        doses = trajectory.doses[:, : options.max_steps - lag]
        for i in range(1, horizon):
            logits[i, :, lag:] += doses @ kernel[lag + i]
    return logits


class _Futures:
    """M simulated futures of each of S stays, from the end of step k."""

    def __init__(
        self,
        options: WardOptions,
        baseline: Floats,
        trajectory: Trajectory,
        past_doses: Floats,
        *,
        k: int,
        paths: int,
    ) -> None:
        drugs = options.drugs.values()
        factors = options.factors.values()
        self.paths = paths
        self.persistence = options.response.persistence
        self.baseline = baseline[:, None]
        self.past_doses = past_doses[:, :, k, None]
        self.base_logits = logit(np.array([drug.chance for drug in drugs]))
        self.when_septic = np.array([drug.when_septic for drug in drugs])
        self.levels = [np.array(drug.doses) for drug in drugs]
        self.memory = np.array([factor.memory for factor in factors])
        self.septic_effect = np.array([factor.septic for factor in factors])
        self.noise = np.array([factor.noise for factor in factors])
        self.physiology_effects = dynamics.compute_physiology_effects(options)
        self.weights = dynamics.compute_factor_weights(options)
        self.kernel = dynamics.compute_effect_kernel(options)
        self.y = trajectory.y[:, k]
        self.z = trajectory.factors[:, k + 1]
        self.probability = trajectory.probability[:, k]

    def simulate(
        self, rng: np.random.Generator, horizon: int, *, stay_well: bool
    ) -> tuple[Floats, Floats]:
        """Probability of sepsis in the last step, and of no sepsis up to it; each (S, M).

        With ``stay_well`` only futures without sepsis in the steps between are simulated.
        """
        shape = (len(self.probability), self.paths)
        y = np.repeat(self.y[:, None], self.paths, axis=1)
        p = np.repeat(self.probability[:, None], self.paths, axis=1)
        z = np.repeat(self.z[:, None, :], self.paths, axis=1)
        no_event = 1 - p
        doses: list[Floats] = []
        for i in range(1, horizon):
            doses.append(self._draw_doses(rng, y))
            y = np.zeros(shape, bool) if stay_well else _draw_stratified(rng, shape) < p
            z = (
                self.memory * z
                + self.septic_effect * y[..., None]
                + doses[-1] @ self.physiology_effects
            )
            z += self.noise * rng.standard_normal(z.shape)
            new_doses = sum(dose @ self.kernel[i - 1 - j] for j, dose in enumerate(doses))
            p = expit(
                self.baseline
                + self.persistence * y
                + z @ self.weights
                + self.past_doses[i]
                + new_doses
            )
            no_event = no_event * (1 - p)
        return p, no_event

    def _draw_doses(self, rng: np.random.Generator, was_septic: Bools) -> Floats:
        shape = (*was_septic.shape, len(self.levels))
        dose_draws = rng.random(shape)
        level_draws = rng.random(shape)
        is_given = dose_draws < expit(self.base_logits + self.when_septic * was_septic[..., None])
        amounts = [
            level[(level_draws[..., d] * len(level)).astype(int)]
            for d, level in enumerate(self.levels)
        ]
        return np.where(is_given, np.stack(amounts, axis=-1), 0.0)


def _draw_stratified(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """Uniform numbers, one in each of M equal parts of [0, 1), in random order along axis 1."""
    order = np.argsort(rng.random(shape), axis=1)
    return (order + rng.random(shape)) / shape[1]
