"""Random batches of whole stays of like length, in slabs of time that leave out most of the padding.

Stays differ in length by a factor of ten, so padding a random batch to its longest stay multiplies the work. Two
things avoid that. The stays are drawn in random pools, and each pool is cut into batches by length: a batch then
holds stays of like length, but never the same ones twice, and training weighs it by its rows. And a batch is sorted by
length and cut along time into slabs: each slab holds only the stays that are still running, and the recurrent state is
handed from one slab to the next. What is left is a twentieth of padding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Ints = NDArray[np.int64]

POOL = 4
"""Batches' worth of stays that are drawn together and sorted by length."""
CALL_ROWS = 80
"""What one more slab costs, in rows, and"""
STEP_ROWS = 1
"""what one more step costs (measured: torch's LSTM on one core, 128 units)."""


@dataclass(frozen=True)
class Table:
    """Rows of whole stays on the device where they are used."""

    x: Tensor  # (N, F) float32
    y: Tensor  # (N,) float32
    weight: Tensor  # (N,) float32: 1 where the row counts
    starts: Ints  # (S,) first row of each stay
    lengths: Ints  # (S,) rows of each stay


@dataclass(frozen=True)
class Batch:
    """The rows of some stays in slabs, one after the other; within a slab by step, and the longest stay first.

    R rows, including those that pad a slab.
    """

    x: Tensor  # (R, F)
    y: Tensor  # (R,)
    weight: Tensor  # (R,): 0 where the row does not count, and beyond the end of a stay
    stay: Tensor  # (R,) int64: which of the batch's stays, the longest being 0
    slabs: list[tuple[int, int]]
    """Steps and stays of each slab; the stays are the batch's first ones."""

    def cut(self, rows: Tensor) -> list[Tensor]:
        """Of something with R rows, each slab's, shape (steps, stays, ...)."""
        parts = torch.split(rows, [steps * stays for steps, stays in self.slabs])
        return [part.view(*slab, *part.shape[1:]) for part, slab in zip(parts, self.slabs, strict=True)]


def useful_lengths(offsets: Ints, scored: NDArray[np.bool_]) -> Ints:
    """Rows of each stay up to its last scored one, shape (S,); what follows teaches nothing.

    >>> useful_lengths(np.array([0, 3, 5]), np.array([True, True, False, False, False])).tolist()
    [2, 0]
    """
    last = np.where(scored, np.arange(1, len(scored) + 1), 0)
    reach = np.maximum.accumulate(last)[np.maximum(offsets[1:] - 1, 0)] if len(last) else np.zeros(len(offsets) - 1)
    return np.maximum(reach - offsets[:-1], 0).astype(np.int64)


def cut(lengths: Ints) -> list[tuple[int, int, int]]:
    """The slabs (first step, end, width) that hold stays of these lengths, longest first, at least cost.

    >>> cut(np.array([30, 28, 28, 28]))
    [(0, 30, 4)]
    >>> cut(np.array([60] + [8] * 31))
    [(0, 8, 32), (8, 60, 1)]
    """
    ends = np.concatenate([[0], np.unique(lengths)])
    running = np.searchsorted(-lengths, -ends[:-1], side="left")
    cost, came_from = np.zeros(len(ends)), np.zeros(len(ends), dtype=np.int64)
    for end in range(1, len(ends)):
        total = cost[:end] + CALL_ROWS + (ends[end] - ends[:end]) * (running[:end] + STEP_ROWS)
        came_from[end] = total.argmin()
        cost[end] = total[came_from[end]]
    slabs, end = [], len(ends) - 1
    while end > 0:
        start = int(came_from[end])
        slabs.append((int(ends[start]), int(ends[end]), int(running[start])))
        end = start
    return slabs[::-1]


def batches(lengths: Ints, size: int, generator: torch.Generator, pool: int = POOL) -> list[Ints]:
    """All stays with rows once, ``size`` at a time; a ``pool`` of 1 gives plain random batches.

    The batches of a pool, in random order, follow each other, so that the optimiser's momentum spans all lengths.
    """
    stays = np.flatnonzero(lengths)
    order = stays[torch.randperm(len(stays), generator=generator).numpy()]
    pools = (order[i : i + pool * size] for i in range(0, len(order), pool * size))
    found = [
        together[i : i + size]
        for together in (part[np.argsort(lengths[part], kind="stable")] for part in pools)
        for i in range(0, len(together), size)
    ]
    near = (range(i, min(i + pool, len(found))) for i in range(0, len(found), pool))
    return [found[within[j]] for within in near for j in torch.randperm(len(within), generator=generator).tolist()]


def gather(table: Table, stays: Ints, slabs: Callable[[Ints], list[tuple[int, int, int]]] = cut) -> Batch:
    """The rows of these stays, each of which has some, as :func:`cut` lays them out."""
    order = np.argsort(-table.lengths[stays], kind="stable")
    lengths = table.lengths[stays][order]
    first = table.starts[stays][order]
    places = slabs(lengths)
    step = np.concatenate([np.repeat(np.arange(start, end), n) for start, end, n in places])
    stay = np.concatenate([np.tile(np.arange(n), end - start) for start, end, n in places])
    inside = step < lengths[stay]
    device = table.x.device
    rows = torch.from_numpy(np.where(inside, first[stay] + step, 0)).to(device)
    return Batch(
        x=table.x.index_select(0, rows),
        y=table.y.index_select(0, rows),
        weight=table.weight.index_select(0, rows) * torch.from_numpy(inside).to(device),
        stay=torch.from_numpy(stay).to(device),
        slabs=[(end - start, n) for start, end, n in places],
    )
