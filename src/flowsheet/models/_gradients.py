"""Integrated gradients of networks (Sundararajan et al. 2017, arXiv 1703.01365).

An input contributes its distance from the reference times the mean gradient of the log odds on the
straight line from the reference to the inputs. The contributions then add up to the difference of
the log odds between the two ends.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from flowsheet.typing import Floats, Ints

POINTS = (8, 16, 32, 64, 128, 256, 512)
"""Points on the line (nodes of Gauss and Legendre), more and more until the sums are right."""
TOLERANCE = 0.01
"""What the sum may miss of the difference of the log odds, as a share of all absolute contributions
together: no contribution then changes by more than this share of itself when the rest is spread."""
ROUNDING = 1e-5
"""Log odds that the sum may miss in any case."""
BATCH_POINTS = 256
"""Points of all predictions together that are evaluated at a time, at most."""
BATCH_ROWS = 1 << 15
"""Rows of all points together that are evaluated at a time, about."""

Logits = Callable[[Tensor, Ints], Tensor]
"""(inputs (P, T, D), position of the prediction of each point (P,)) -> log odds (P,)."""


class Integrals(NamedTuple):
    """The integrated gradients of B predictions, whose ``values`` add up."""

    baseline: Tensor  # (B,) log odds at the reference
    log_odds: Tensor  # (B,)
    values: Tensor  # (B, T, D)
    missed: Tensor  # (B,) log odds by which the sum missed the difference before it was spread


def integrate_gradients(logits: Logits, x: Tensor, reference: Tensor) -> Integrals:
    """Integrate the gradients of B predictions from the reference to their inputs.

    What numerical integration misses is spread over the contributions in proportion to their size.

    Args:
        logits: The network.
        x: Inputs (B, T, D).
        reference: Reference inputs of every row (D,).
    """
    everything = np.arange(len(x))
    with torch.no_grad():
        log_odds = logits(x, everything)
        baseline = logits(reference.expand_as(x), everything)
    difference = log_odds - baseline
    values, left = torch.zeros_like(x), everything
    for points in POINTS:
        values[left] = _integrate(logits, x, reference, left, points)
        missed = difference - values.sum(dim=(1, 2))
        total = values.abs().sum(dim=(1, 2))
        left = np.flatnonzero((missed.abs() > TOLERANCE * total + ROUNDING).numpy())
        if not len(left):
            break
    share = missed / total.clamp(min=torch.finfo(x.dtype).tiny)
    values += values.abs() * share[:, None, None]
    return Integrals(baseline, log_odds, values, missed)


def _integrate(logits: Logits, x: Tensor, reference: Tensor, chosen: Ints, points: int) -> Tensor:
    """The integrals of the chosen predictions (C, T, D) with that many points each."""
    nodes, weights = (torch.from_numpy(a).to(x.dtype) for a in _gauss_legendre(points))
    largest = max(1, min(BATCH_POINTS, BATCH_ROWS // x.shape[1]))
    size = max(1, largest // points)
    integrals = torch.zeros_like(x[chosen])
    for first in range(0, len(chosen), size):
        predictions = chosen[first : first + size]
        distance = x[predictions] - reference
        mean = torch.zeros_like(distance)
        for part in (slice(i, i + largest) for i in range(0, points, largest)):
            own_nodes, own_weights = nodes[part], weights[part]
            line = (reference + own_nodes.view(1, -1, 1, 1) * distance[:, None]).flatten(0, 1)
            line.requires_grad_(True)
            outputs = logits(line, np.repeat(predictions, len(own_nodes)))
            (gradients,) = torch.autograd.grad(outputs.sum(), line)
            by_point = gradients.view(len(predictions), len(own_nodes), *x.shape[1:])
            mean += torch.einsum("p,bptd->btd", own_weights, by_point)
        integrals[first : first + size] = mean * distance
    return integrals


@cache
def _gauss_legendre(points: int) -> tuple[Floats, Floats]:
    """Nodes and weights on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(points)
    return (nodes + 1) / 2, weights / 2
