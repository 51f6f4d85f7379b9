"""The data-generating process: a block of stays, simulated together, step by step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from flowsheet.cohort.sources.simulated.data_generating_process import WardOptions
from flowsheet.typing import Bools, Floats, Ints

BLOCK = 500
"""Stays are drawn in blocks of this size, each with its own streams of random numbers.

The last block is drawn completely and then cut, so the first stays of a ward do not depend on how
many stays follow.
"""

STREAMS = (
    "patients",
    "body_measures",
    "admissions",
    "doses",
    "dose_levels",
    "physiology",
    "response",
    "measurements",
    "treatment_times",
    "episode_times",
    "oracle",
)
"""Purposes of random numbers; the position of a name is part of its seed."""


@dataclass(frozen=True)
class Patients:
    """The stays of a block and the traits of their patients; arrays of shape (S,)."""

    stay_id: Ints
    first: Ints  # position of the subject's first stay; for most stays their own
    steps: Ints  # L, length of stay
    age: Floats
    male: Bools
    unit: Ints  # position in options.units
    frailty: Floats  # logits


@dataclass(frozen=True)
class Trajectory:
    """What happens to the patients in T steps; D drugs, F factors.

    Steps beyond the length of a stay are simulated too, but have no meaning.
    """

    doses: Floats  # (S, T, D) amount given in step k
    y: Bools  # (S, T) septic in step k
    factors: Floats  # (S, T + 1, F) at the end of step k, from k = 0
    probability: Floats  # (S, T) P(septic in step k + 1 | everything up to the end of step k)


def make_rng(options: WardOptions, block: int, purpose: str) -> np.random.Generator:
    """The random numbers of one block for one purpose.

    Separate streams allow one part of the process to change without the others.
    """
    return np.random.default_rng([options.seed, block, STREAMS.index(purpose)])


def draw_patients(options: WardOptions, block: int) -> Patients:
    """Draw the patients of a whole block."""
    rng = make_rng(options, block, "patients")
    position = np.arange(BLOCK)
    # every other position may be the second stay of the subject before it
    is_second = (position % 2 == 1) & (rng.random(BLOCK) < 2 * options.share_readmitted)
    first = position - is_second
    shares = np.array([unit.share for unit in options.units.values()])
    return Patients(
        stay_id=block * BLOCK + position + 1,
        first=first,
        steps=rng.integers(options.min_steps, options.max_steps, BLOCK, endpoint=True),
        age=np.clip(rng.normal(63, 15, BLOCK), 18, 90).round()[first],
        male=(rng.random(BLOCK) < 0.55)[first],
        unit=rng.choice(len(shares), BLOCK, p=shares / shares.sum()),
        frailty=rng.normal(0, options.response.frailty_sd, BLOCK)[first],
    )


def compute_effect_kernel(options: WardOptions, lags: int | None = None) -> Floats:
    """Direct effect of one unit of each drug in logits, by lag; shape (T or ``lags``, D)."""
    lag = np.arange(lags or options.max_steps, dtype=float)
    effects = [drug.effect / drug.reference * drug.curve.at(lag) for drug in options.drugs.values()]
    return np.stack(effects, axis=1)


def compute_baseline_logits(options: WardOptions, patients: Patients) -> Floats:
    """The part of the logit that is constant during a stay, shape (S,)."""
    response = options.response
    unit_effects = np.array([unit.effect for unit in options.units.values()])
    charted = (
        response.age * (patients.age - 60) / 10
        + response.male * patients.male
        + unit_effects[patients.unit]
    )
    return np.asarray(response.intercept + charted + patients.frailty)


def compute_physiology_effects(options: WardOptions) -> Floats:
    """Change of each factor by one unit of each drug, shape (D, F)."""
    rows = [
        [drug.physiology.get(name, 0) / drug.reference for name in options.factors]
        for drug in options.drugs.values()
    ]
    return np.array(rows)


def compute_factor_weights(options: WardOptions) -> Floats:
    """Logits of the response per unit of each factor, shape (F,)."""
    return np.array([options.response.physiology.get(name, 0.0) for name in options.factors])


def simulate_trajectory(options: WardOptions, patients: Patients, block: int) -> Trajectory:
    """Simulate a block; the order of events within a step is that of ``docs/simulated-ward.md``."""
    steps = options.max_steps
    offered = _draw_offered_doses(options, block)
    base_logits = logit(np.array([drug.chance for drug in options.drugs.values()]))
    when_septic = np.array([drug.when_septic for drug in options.drugs.values()])
    dose_draws = make_rng(options, block, "doses").random(offered.shape)
    response_draws = make_rng(options, block, "response").random((BLOCK, steps))
    physiology_effects = compute_physiology_effects(options)
    weights = compute_factor_weights(options)
    reversed_kernel = compute_effect_kernel(options)[::-1]
    baseline = compute_baseline_logits(options, patients)
    memory = np.array([factor.memory for factor in options.factors.values()])
    septic_effect = np.array([factor.septic for factor in options.factors.values()])
    persistence = options.response.persistence

    z = _draw_innovations(options, block)
    doses = np.zeros_like(offered)
    y = np.zeros((BLOCK, steps), dtype=bool)
    probability = np.zeros((BLOCK, steps))
    was_septic = np.zeros(BLOCK, dtype=bool)
    next_probability = expit(baseline + z[:, 0] @ weights)
    for k in range(steps):
        is_given = dose_draws[:, k] < expit(base_logits + when_septic * was_septic[:, None])
        doses[:, k] = np.where(is_given, offered[:, k], 0)
        y[:, k] = response_draws[:, k] < next_probability
        # z[k + 1] holds the innovation until here
        z[:, k + 1] += (
            memory * z[:, k] + septic_effect * y[:, k, None] + doses[:, k] @ physiology_effects
        )
        drugs = np.einsum("skd,kd->s", doses[:, : k + 1], reversed_kernel[steps - k - 1 :])
        next_probability = expit(baseline + persistence * y[:, k] + z[:, k + 1] @ weights + drugs)
        probability[:, k] = next_probability
        was_septic = y[:, k]
    return Trajectory(doses, y, z, probability)


def _draw_offered_doses(options: WardOptions, block: int) -> Floats:
    """The dose of each drug in each step, were it given; shape (S, T, D)."""
    levels = [np.array(drug.doses) for drug in options.drugs.values()]
    shape = (BLOCK, options.max_steps, len(levels))
    draws = make_rng(options, block, "dose_levels").random(shape)
    doses = [level[(draws[..., d] * len(level)).astype(int)] for d, level in enumerate(levels)]
    return np.stack(doses, axis=-1)


def _draw_innovations(options: WardOptions, block: int) -> Floats:
    """The factors' first level, in equilibrium, then their innovations; shape (S, T + 1, F)."""
    noise = np.array([factor.noise for factor in options.factors.values()])
    memory = np.array([factor.memory for factor in options.factors.values()])
    shape = (BLOCK, options.max_steps + 1, len(noise))
    z = noise * make_rng(options, block, "physiology").standard_normal(shape)
    z[:, 0] /= np.sqrt(1 - memory**2)
    return z
