"""Random batches of whole stays, in slabs of time that leave out most of the padding.

Stays differ in length by a factor of ten, so padding a batch to its longest stay multiplies the work. Here a batch
is sorted by length and cut along time into slabs: each slab holds only the stays that are still running, and the
recurrent state is handed from one slab to the next. It is the same batch and the same gradient, with a sixth of
padding instead of a multiple. Slabs come in few shapes, because kernels are prepared per shape.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Ints = NDArray[np.int64]

GRID = 8
"""Slabs begin and end at multiples of this many steps."""
WIDTHS = np.array([1, 2, 4, 8, 16, 24, 32, 40, 48, 56, 64])
"""Slabs are this many stays wide; wider ones are multiples of the last."""
CALL_ROWS = 100
"""What one more slab costs, in rows (measured: torch's LSTM on one core, 128 units)."""


@dataclass(frozen=True)
class Table:
    """Rows of whole stays on the device where they are used."""

    x: Tensor  # (N, F) float32
    y: Tensor  # (N,) float32
    weight: Tensor  # (N,) float32: 1 where the row counts
    starts: Ints  # (S,) first row of each stay
    lengths: Ints  # (S,) rows of each stay


@dataclass(frozen=True)
class Slab:
    """Some consecutive steps of the stays that are still running, the longest first."""

    x: Tensor  # (T, n, F)
    y: Tensor  # (T, n)
    weight: Tensor  # (T, n): 0 also beyond the end of a stay


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

    >>> cut(np.array([30, 8, 8, 8]))
    [(0, 32, 4)]
    >>> cut(np.array([60] + [8] * 31))
    [(0, 8, 32), (8, 64, 1)]
    """
    steps = GRID * np.arange(-(-int(lengths[0]) // GRID) + 1)
    running = np.searchsorted(-lengths, -steps[:-1], side="left")
    width = _round_up(running)
    cost, came_from = np.zeros(len(steps)), np.zeros(len(steps), dtype=np.int64)
    for end in range(1, len(steps)):
        total = cost[:end] + CALL_ROWS + (steps[end] - steps[:end]) * width[:end]
        came_from[end] = total.argmin()
        cost[end] = total[came_from[end]]
    slabs, end = [], len(steps) - 1
    while end > 0:
        start = int(came_from[end])
        slabs.append((int(steps[start]), int(steps[end]), int(width[start])))
        end = start
    return slabs[::-1]


def _round_up(count: Ints) -> Ints:
    whole, rest = np.divmod(np.maximum(count - 1, 0), WIDTHS[-1])
    return np.asarray(whole * WIDTHS[-1] + WIDTHS[np.searchsorted(WIDTHS, rest + 1)])


def batches(stays: Ints, size: int, generator: torch.Generator) -> Iterator[Ints]:
    """The stays in random order, ``size`` at a time."""
    order = stays[torch.randperm(len(stays), generator=generator).numpy()]
    return (order[i : i + size] for i in range(0, len(order), size))


def slabs_of(table: Table, stays: Ints) -> list[Slab]:
    """These stays as slabs; a stay without rows is left out."""
    lengths = table.lengths[stays]
    order = np.argsort(-lengths, kind="stable")
    order = order[: np.count_nonzero(lengths)]
    if len(order) == 0:
        return []
    stays, lengths = stays[order], lengths[order]
    return [slab(table, table.starts[stays], lengths, place) for place in cut(lengths)]


def slab(table: Table, starts: Ints, lengths: Ints, place: tuple[int, int, int]) -> Slab:
    """The rows of stays that begin at ``starts``, for a place (first step, end, width)."""
    start, end, width = place
    spare = max(width - len(starts), 0)
    first, length = np.pad(starts[:width], (0, spare)), np.pad(lengths[:width], (0, spare))
    step = np.arange(start, end)[:, None]
    inside = step < length
    rows = torch.from_numpy(np.where(inside, first + step, 0)).to(table.x.device)
    flat = rows.view(-1)
    weight = table.weight[rows] * torch.from_numpy(inside).to(table.x.device)
    return Slab(table.x.index_select(0, flat).view(*rows.shape, -1), table.y[rows], weight)
