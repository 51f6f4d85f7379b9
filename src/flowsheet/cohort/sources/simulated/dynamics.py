"""The law at work: a block of stays, all at once, step by step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from flowsheet.cohort.sources.simulated.process import WardOptions
from flowsheet.typing import Bools, Floats, Ints

BLOCK = 500
"""Stays are drawn in blocks of this size, each with its own streams, and a last block is drawn
whole and cut: so the first stays of a ward do not depend on how many follow."""

STREAMS = (
    "people",
    "bodies",
    "arrivals",
    "doses",
    "levels",
    "physiology",
    "response",
    "readings",
    "timing",
    "episodes",
    "ahead",
)


@dataclass(frozen=True)
class People:
    """Who lies in the ward; arrays of shape (S,)."""

    stay_id: Ints
    first: Ints  # position of the subject's first stay; itself for most
    steps: Ints  # L, length of stay
    age: Floats
    male: Bools
    unit: Ints  # position in options.units
    frailty: Floats  # logits


@dataclass(frozen=True)
class Course:
    """What befell them: T steps, D drugs, F factors. Steps beyond a stay's length mean nothing."""

    doses: Floats  # (S, T, D) amount given in step k
    y: Bools  # (S, T) septic in step k
    factors: Floats  # (S, T + 1, F) at the end of step k, from k = 0
    probability: (
        Floats  # (S, T) P(septic in step k + 1 | all that happened up to the end of step k)
    )


def stream(options: WardOptions, block: int, name: str) -> np.random.Generator:
    """The random numbers of one block for one purpose, so that one part of the law can change by itself."""
    return np.random.default_rng([options.seed, block, STREAMS.index(name)])


def people(options: WardOptions, block: int) -> People:
    """Draw a whole block's people."""
    rng = stream(options, block, "people")
    here = np.arange(BLOCK)
    # every other place may hold the second stay of the subject before it
    again = (here % 2 == 1) & (rng.random(BLOCK) < 2 * options.share_readmitted)
    first = here - again
    shares = np.array([unit.share for unit in options.units.values()])
    return People(
        stay_id=block * BLOCK + here + 1,
        first=first,
        steps=rng.integers(options.min_steps, options.max_steps, BLOCK, endpoint=True),
        age=np.clip(rng.normal(63, 15, BLOCK), 18, 90).round()[first],
        male=(rng.random(BLOCK) < 0.55)[first],
        unit=rng.choice(len(shares), BLOCK, p=shares / shares.sum()),
        frailty=rng.normal(0, options.response.frailty_sd, BLOCK)[first],
    )


def kernel(options: WardOptions, lags: int | None = None) -> Floats:
    """Logits at lags 0..T-1 (or so many) of one unit of each drug, shape (T, D)."""
    lag = np.arange(lags or options.max_steps, dtype=float)
    return np.stack(
        [d.effect / d.reference * d.curve.at(lag) for d in options.drugs.values()], axis=1
    )


def standing(options: WardOptions, who: People) -> Floats:
    """The part of the logit that does not change during a stay, shape (S,)."""
    law = options.response
    unit = np.array([unit.effect for unit in options.units.values()])
    charted = law.age * (who.age - 60) / 10 + law.male * who.male + unit[who.unit]
    return np.asarray(law.intercept + charted + who.frailty)


def course(options: WardOptions, who: People, block: int) -> Course:
    """Let the law run over a block; see ``docs/simulated-ward.md``, whose order of events this follows."""
    steps, law = options.max_steps, options.response
    offered = _offered(options, block)
    chance = logit(np.array([d.chance for d in options.drugs.values()]))
    when_septic = np.array([d.when_septic for d in options.drugs.values()])
    luck = stream(options, block, "doses").random(offered.shape)
    fate = stream(options, block, "response").random((BLOCK, steps))
    pushed, loads, act = push(options), beta(options), kernel(options)[::-1]
    rest = standing(options, who)
    z = _physiology(options, block)
    doses = np.zeros_like(offered)
    y = np.zeros((BLOCK, steps), dtype=bool)
    probability = np.zeros((BLOCK, steps))
    memory = np.array([f.memory for f in options.factors.values()])
    septic = np.array([f.septic for f in options.factors.values()])
    before, ahead = np.zeros(BLOCK, dtype=bool), expit(rest + z[:, 0] @ loads)
    for k in range(steps):
        given = luck[:, k] < expit(chance + when_septic * before[:, None])
        doses[:, k] = np.where(given, offered[:, k], 0)
        y[:, k] = fate[:, k] < ahead
        # z[k + 1] holds the innovation so far
        z[:, k + 1] += memory * z[:, k] + septic * y[:, k, None] + doses[:, k] @ pushed
        drugs = np.einsum("skd,kd->s", doses[:, : k + 1], act[steps - k - 1 :])
        ahead = expit(rest + law.persistence * y[:, k] + z[:, k + 1] @ loads + drugs)
        probability[:, k], before = ahead, y[:, k]
    return Course(doses, y, z, probability)


def _offered(options: WardOptions, block: int) -> Floats:
    """The dose that would be given, were one given, shape (S, T, D)."""
    levels = [np.array(drug.doses) for drug in options.drugs.values()]
    shape = (BLOCK, options.max_steps, len(levels))
    u = stream(options, block, "levels").random(shape)
    chosen = [level[(u[..., d] * len(level)).astype(int)] for d, level in enumerate(levels)]
    return np.stack(chosen, axis=-1)


def _physiology(options: WardOptions, block: int) -> Floats:
    """A first level in equilibrium, then innovations, shape (S, T + 1, F)."""
    noise = np.array([f.noise for f in options.factors.values()])
    memory = np.array([f.memory for f in options.factors.values()])
    z = noise * stream(options, block, "physiology").standard_normal(
        (BLOCK, options.max_steps + 1, len(noise))
    )
    z[:, 0] /= np.sqrt(1 - memory**2)
    return z


def push(options: WardOptions) -> Floats:
    """What one unit of a drug does to each factor, shape (D, F)."""
    rows = [
        [d.physiology.get(f, 0) / d.reference for f in options.factors]
        for d in options.drugs.values()
    ]
    return np.array(rows)


def beta(options: WardOptions) -> Floats:
    """Logits of the response per unit of each factor, shape (F,)."""
    return np.array([options.response.physiology.get(f, 0.0) for f in options.factors])
