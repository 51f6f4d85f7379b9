"""Random batches of whole stays of like length, laid out with little padding or none.

Stays differ in length by a factor of ten, so padding a random batch to its longest stay multiplies
the work. Two things avoid that. The stays are drawn in random pools, and each pool is cut into
batches by length: a batch then holds stays of like length, but never the same ones twice, and
training weighs it by the square root of its rows. And the rows of a batch are laid out as the
recurrent layer likes them: packed, where each step has only the rows of the stays that still run;
or folded for a kernel that wants as many at every step, where stay follows stay in each of a few
columns.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from flowsheet.typing import Bools, Ints

POOL = 4
"""Batches' worth of stays that are drawn together and sorted by length."""
WIDTHS = (32, 24, 16, 12, 8)
"""Columns that stays may be folded into, and"""
GRAIN = 2
"""what the steps are then a multiple of: torch prepares its kernel for every new shape."""


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
    """The rows of some stays by step, R in all, with those at which no stay runs."""

    x: Tensor  # (R, F)
    y: Tensor  # (R,)
    weight: Tensor  # (R,): 0 where the row does not count
    stay: Tensor  # (R,) int64: which of the batch's stays, the longest being 0
    idle: Tensor  # (R,) bool: no stay runs here
    widths: list[int]
    """Rows of each step. They only grow fewer, and row j of a step follows row j of the step before."""
    stays: int


Layout = Callable[[Ints, Ints, Ints], tuple[Ints, list[int]]]
"""From the stays' lengths, the longest first, and each row's stay and step: each row's place, and rows of each step."""


def useful_lengths(offsets: Ints, scored: Bools) -> Ints:
    """Rows of each stay up to its last scored one, shape (S,); what follows teaches nothing.

    >>> useful_lengths(np.array([0, 3, 5]), np.array([True, True, False, False, False])).tolist()
    [2, 0]
    """
    last = np.where(scored, np.arange(1, len(scored) + 1), 0)
    reach = (
        np.maximum.accumulate(last)[np.maximum(offsets[1:] - 1, 0)]
        if len(last)
        else np.zeros(len(offsets) - 1)
    )
    return np.maximum(reach - offsets[:-1], 0).astype(np.int64)


def packed(lengths: Ints, stay: Ints, step: Ints) -> tuple[Ints, list[int]]:
    """Each step has the rows of the stays that still run, as in torch's ``PackedSequence``.

    >>> packed(np.array([3, 1]), stay=np.array([0, 0, 0, 1]), step=np.array([0, 1, 2, 0]))
    (array([0, 2, 3, 1]), [2, 1, 1])
    """
    widths = np.searchsorted(-lengths, -np.arange(lengths[0]), side="left")
    return (np.cumsum(widths) - widths)[step] + stay, widths.tolist()


def folded(lengths: Ints, stay: Ints, step: Ints, step_rows: float = 1.0) -> tuple[Ints, list[int]]:
    """A few columns of stay after stay, with an idle row between two, at which the recurrence must
    forget all.

    As many columns as make all steps cost least, if one costs ``step_rows`` beside its rows.

    >>> folded(np.array([3, 2]), stay=np.array([0, 0, 0, 1, 1]), step=np.array([0, 1, 2, 0, 1]))
    (array([0, 2, 4, 1, 3]), [2, 2, 2, 2])
    """
    least, rows = np.inf, int(lengths.sum()) + len(lengths)
    for width in WIDTHS:
        n = min(width, len(lengths))
        if max(lengths[0], rows // n - 1) * (n + step_rows) < least:  # it may cost less
            steps, found = _columns(lengths.tolist(), n)
            if steps * (n + step_rows) < least:
                least, columns, (column, begin) = (
                    steps * (n + step_rows),
                    [n] * steps,
                    np.array(found).T,
                )
    return (begin[stay] + step) * columns[0] + column[stay], columns


def _columns(lengths: list[int], width: int) -> tuple[int, list[tuple[int, int]]]:
    """Steps, and each stay's column and first step: stay after stay goes where the column is then shortest."""
    ends, found = [(0, column) for column in range(width)], []
    for length in lengths:
        begin, column = ends[0]
        found.append((column, begin))
        heapq.heapreplace(ends, (begin + length + 1, column))
    return -(-(max(ends)[0] - 1) // GRAIN) * GRAIN, found


def batches(lengths: Ints, size: int, generator: torch.Generator, pool: int = POOL) -> list[Ints]:
    """All stays with rows once, ``size`` at a time; a ``pool`` of 1 gives plain random batches.

    The batches of a pool, in random order, follow each other, so that the optimiser's momentum
    spans all lengths.
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
    return [
        found[within[j]]
        for within in near
        for j in torch.randperm(len(within), generator=generator).tolist()
    ]


def gather(table: Table, stays: Ints, layout: Layout = packed) -> Batch:
    """The rows of these stays, each of which has some."""
    order = np.argsort(-table.lengths[stays], kind="stable")
    lengths, starts = table.lengths[stays][order], table.starts[stays][order]
    owner = np.repeat(np.arange(len(stays)), lengths)
    step = np.arange(len(owner)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    place, widths = layout(lengths, owner, step)
    row, stay = np.zeros((2, sum(widths)), dtype=np.int64)
    idle = np.ones(len(row), dtype=np.bool_)
    row[place], stay[place], idle[place] = starts[owner] + step, owner, False
    rows, stay_of, free = (torch.from_numpy(a).to(table.x.device) for a in (row, stay, idle))
    return Batch(
        x=table.x.index_select(0, rows),
        y=table.y.index_select(0, rows),
        weight=table.weight.index_select(0, rows).masked_fill_(free, 0.0),
        stay=stay_of,
        idle=free,
        widths=widths,
        stays=len(stays),
    )
