"""What the law says of a response further ahead than the next step: the future played out many
times.

P(y(k + h) = 1 | past) is an expectation over the doses, the physiology and the responses of the h -
1 steps between. It is estimated by seeded paths from the exact state at t(k), each of which ends in
the law's own probability of the last step, not in a toss of it; the responses on the way are
stratified over the paths. Both estimates are unbiased.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from flowsheet.cohort.sources.simulated import dynamics as _ward
from flowsheet.cohort.sources.simulated.process import WardOptions
from flowsheet.typing import Bools, Floats


@dataclass(frozen=True)
class Ahead:
    """Of every step k of a block, shape (S, T); errors are standard errors of the simulation, 0 where exact."""

    state: Floats  # P(septic in step k + h | past)
    within: Floats  # P(septic in some step of k + 1..k + h | past)
    state_error: Floats
    within_error: Floats


def ahead(
    options: WardOptions,
    who: _ward.People,
    what: _ward.Course,
    block: int,
    *,
    horizon: int,
    paths: int,
) -> Ahead:
    """The law's probabilities ``horizon`` steps ahead; exact for 1, else from so many paths a row."""
    exact = what.probability
    if horizon == 1:
        return Ahead(exact, exact, np.zeros_like(exact), np.zeros_like(exact))
    rng = _ward.stream(options, block, "ahead")
    standing = _standing_doses(options, what, horizon)
    out = np.empty((4, *exact.shape))
    for k in range(options.max_steps):
        start = _Paths(options, _ward.standing(options, who), what, standing, k=k, paths=paths)
        reached = start.run(rng, horizon, well=False)[0]
        survived = start.run(rng, horizon, well=True)[1]
        for place, sample in ((0, reached), (1, 1 - survived)):
            out[place, :, k] = sample.mean(axis=1)
            out[place + 2, :, k] = sample.std(axis=1, ddof=1) / np.sqrt(paths)
    return Ahead(*out)


def _standing_doses(options: WardOptions, what: _ward.Course, horizon: int) -> Floats:
    """Logits that the doses up to step k still give i steps later, shape (h, S, T); row 0 is not used."""
    act = _ward.kernel(options, options.max_steps + horizon)
    out = np.zeros((horizon, *what.probability.shape))
    for lag in range(options.max_steps):
        given = what.doses[:, : options.max_steps - lag]
        for i in range(1, horizon):
            out[i, :, lag:] += given @ act[lag + i]
    return out


class _Paths:
    """M futures of each of S stays, from the end of step k."""

    def __init__(
        self,
        options: WardOptions,
        rest: Floats,
        what: _ward.Course,
        standing: Floats,
        *,
        k: int,
        paths: int,
    ) -> None:
        drugs, factors = options.drugs.values(), options.factors.values()
        self.options, self.rest, self.standing, self.paths = (
            options,
            rest[:, None],
            standing[:, :, k, None],
            paths,
        )
        self.chance = logit(np.array([d.chance for d in drugs]))
        self.when_septic = np.array([d.when_septic for d in drugs])
        self.levels = [np.array(d.doses) for d in drugs]
        self.memory, self.septic, self.noise = (
            np.array([getattr(f, name) for f in factors]) for name in ("memory", "septic", "noise")
        )
        self.push, self.beta = _ward.push(options), _ward.beta(options)
        self.act = _ward.kernel(options)
        self.y, self.z, self.p = what.y[:, k], what.factors[:, k + 1], what.probability[:, k]

    def run(self, rng: np.random.Generator, horizon: int, *, well: bool) -> tuple[Floats, Floats]:
        """The probability of the last step, and that of staying well up to it, each (S, M).

        ``well`` follows the futures in which nobody becomes septic on the way.
        """
        shape = (len(self.p), self.paths)
        y, p = (
            np.repeat(self.y[:, None], self.paths, axis=1),
            np.repeat(self.p[:, None], self.paths, axis=1),
        )
        z = np.repeat(self.z[:, None, :], self.paths, axis=1)
        survived, given = 1 - p, list[Floats]()
        for i in range(1, horizon):
            given.append(self._doses(rng, y))
            y = np.zeros(shape, bool) if well else _stratified(rng, shape) < p
            z = self.memory * z + self.septic * y[..., None] + given[-1] @ self.push
            z += self.noise * rng.standard_normal(z.shape)
            new = sum(dose @ self.act[i - 1 - j] for j, dose in enumerate(given))
            law = self.options.response
            p = expit(self.rest + law.persistence * y + z @ self.beta + self.standing[i] + new)
            survived = survived * (1 - p)
        return p, survived

    def _doses(self, rng: np.random.Generator, before: Bools) -> Floats:
        shape = (*before.shape, len(self.levels))
        luck, which = rng.random(shape), rng.random(shape)
        given = luck < expit(self.chance + self.when_septic * before[..., None])
        amounts = [
            level[(which[..., d] * len(level)).astype(int)] for d, level in enumerate(self.levels)
        ]
        return np.where(given, np.stack(amounts, axis=-1), 0.0)


def _stratified(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """Uniform numbers, one in each of M equal parts of [0, 1) along the second axis, in random order."""
    order = np.argsort(rng.random(shape), axis=1)
    return (order + rng.random(shape)) / shape[1]
