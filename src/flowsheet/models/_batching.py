"""Random batches of whole stays of similar length, laid out with little padding or none.

Stays differ in length by a factor of ten, so padding a random batch to its longest stay multiplies
the work. Two things avoid that:

* Bucketing. Stays are drawn in random pools, and each pool is sorted by length and cut into
  batches. The stays of a batch thus have similar lengths, but no two epochs have the same batches.
* Layout. The rows of a batch are arranged for the recurrent layer: packed, where each step has only
  the rows of the stays that are not finished yet; or column-packed for a kernel that wants equally
  many rows at every step, where each of a few columns holds one stay after another.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from flowsheet.models._row_matrix import prefetched
from flowsheet.typing import Bools, Ints

T = TypeVar("T")

POOL_BATCHES = 4
"""Number of batches whose stays are drawn together and sorted by length."""
COLUMN_COUNTS = (32, 24, 16, 12, 8)
"""Numbers of columns that a column-packed batch may have."""
STEP_MULTIPLE = 2
"""The steps of a column-packed batch are a multiple of this, as torch prepares its kernel for every
new shape."""


class StayReader(Protocol):
    """Reads the inputs of stays that are not all in memory."""

    def read(self, stays: Ints) -> tuple[Tensor, Ints]:
        """The inputs of these stays, and the first row of each of them there."""


StayInputs = Tensor | StayReader
"""The inputs (N, F) of all stays, or who reads them."""


class TrainingRows(Protocol):
    """The rows that a network is trained on, in batches."""

    @property
    def weight(self) -> Tensor:
        """1 where the row counts in the loss (N,)."""

    @property
    def lengths(self) -> Ints:
        """Rows of each stay (S,)."""

    def draw(self, size: int, generator: torch.Generator) -> Sequence[Any]:
        """What each batch of an epoch consists of, for batches of about ``size`` stays."""

    def gather(self, drawn: Sequence[Any], layout: Layout) -> Iterator[Batch]:
        """The batches that were drawn."""


@dataclass(frozen=True)
class StayRows:
    """Rows of whole stays on the device where they are used."""

    x: StayInputs  # (N, F) float32
    y: Tensor  # (N,) float32
    weight: Tensor  # (N,) float32: 1 where the row counts in the loss
    starts: Ints  # (S,) first row of each stay
    lengths: Ints  # (S,) rows of each stay
    part: slice = field(default_factory=lambda: slice(None))
    """Which stays of a batch, the longest first, are this process's; the others are a group's."""

    def draw(self, size: int, generator: torch.Generator) -> Sequence[Ints]:
        """The stays of each batch of an epoch."""
        return draw_batches(self.lengths, size, generator)

    def gather(self, drawn: Sequence[Ints], layout: Layout) -> Iterator[Batch]:
        """The batches of these stays."""
        return read_ahead(self.x, (gather(self, stays, layout) for stays in drawn))


@dataclass(frozen=True)
class Batch:
    """The rows of some stays by step, R in all, padding included.

    In a group of processes each has its part of the stays of the whole batch.
    """

    x: Tensor  # (R, F)
    y: Tensor  # (R,)
    weight: Tensor  # (R,): 0 where the row does not count in the loss
    stay: Tensor  # (R,) int64: position of the row's stay in the whole batch, the longest first
    padding: Tensor  # (R,) bool: the row belongs to no stay
    batch_sizes: list[int]
    """Rows of each step, never more than in the step before, as in torch's ``PackedSequence``. Row
    j of a step continues row j of the step before."""
    stays: int
    """Stays of the whole batch."""


Layout = Callable[[Ints, Ints, Ints], tuple[Ints, list[int]]]
"""(lengths of the stays, the longest first; stay of each row; step of each row) -> (position of
each row in the batch; rows of each step)."""


def last_scored_lengths(offsets: Ints, scored: Bools) -> Ints:
    """Rows of each stay up to its last scored one, shape (S,); later rows do not affect the loss.

    >>> scored = np.array([True, True, False, False, False])
    >>> last_scored_lengths(np.array([0, 3, 5]), scored).tolist()
    [2, 0]
    """
    if not len(scored):
        return np.zeros(len(offsets) - 1, np.int64)
    scored_end = np.where(scored, np.arange(1, len(scored) + 1), 0)
    last_scored_end = np.maximum.accumulate(scored_end)[np.maximum(offsets[1:] - 1, 0)]
    return np.maximum(last_scored_end - offsets[:-1], 0).astype(np.int64)


def packed(lengths: Ints, stay: Ints, step: Ints) -> tuple[Ints, list[int]]:
    """Each step has the rows of the stays that are not finished, as in torch's ``PackedSequence``.

    >>> packed(np.array([3, 1]), stay=np.array([0, 0, 0, 1]), step=np.array([0, 1, 2, 0]))
    (array([0, 2, 3, 1]), [2, 1, 1])
    """
    batch_sizes = np.searchsorted(-lengths, -np.arange(lengths[0]), side="left")
    first_rows = np.cumsum(batch_sizes) - batch_sizes
    return first_rows[step] + stay, batch_sizes.tolist()


def column_packed(
    lengths: Ints, stay: Ints, step: Ints, step_overhead: float = 1.0
) -> tuple[Ints, list[int]]:
    """Each of a few columns holds one stay after another, separated by padding rows.

    At a padding row the layer must reset its state. The number of columns is the one of
    ``COLUMN_COUNTS`` that costs least.

    Args:
        lengths: Lengths of the stays (S,), the longest first.
        stay: Stay of each row (R,).
        step: Step of each row in its stay (R,).
        step_overhead: The fixed cost of a step, in rows.

    Returns:
        The position of each row in the batch (R,), and the rows of each step.

    >>> stay, step = np.array([0, 0, 0, 1, 1]), np.array([0, 1, 2, 0, 1])
    >>> column_packed(np.array([3, 2]), stay, step)
    (array([0, 2, 4, 1, 3]), [2, 2, 2, 2])
    """
    least_cost = np.inf
    rows_with_separators = int(lengths.sum()) + len(lengths)
    for count in COLUMN_COUNTS:
        n = min(count, len(lengths))
        fewest_steps = max(lengths[0], rows_with_separators // n - 1)
        if fewest_steps * (n + step_overhead) >= least_cost:
            continue
        steps, positions = _assign_columns(lengths.tolist(), n)
        cost = steps * (n + step_overhead)
        if cost < least_cost:
            least_cost = cost
            batch_sizes = [n] * steps
            column, first_step = np.array(positions).T
    return (first_step[stay] + step) * batch_sizes[0] + column[stay], batch_sizes


def _assign_columns(lengths: list[int], columns: int) -> tuple[int, list[tuple[int, int]]]:
    """The number of steps, and each stay's column and first step.

    Each stay is appended to the column that is shortest at that point.
    """
    ends = [(0, column) for column in range(columns)]
    positions = []
    for length in lengths:
        first_step, column = ends[0]
        positions.append((column, first_step))
        heapq.heapreplace(ends, (first_step + length + 1, column))
    steps = max(ends)[0] - 1
    return -(-steps // STEP_MULTIPLE) * STEP_MULTIPLE, positions


def draw_batches(
    lengths: Ints, size: int, generator: torch.Generator, pool_batches: int = POOL_BATCHES
) -> list[Ints]:
    """All stays that have rows once, in batches of stays of similar length.

    The batches of a pool, in random order, follow each other, so that the optimiser's momentum
    spans all lengths.

    Args:
        lengths: Rows of each stay (S,).
        size: Stays a batch.
        generator: Draws the pools and the order of their batches.
        pool_batches: Batches a pool; 1 gives plain random batches.

    Returns:
        The positions of the stays of each batch.
    """
    stays = np.flatnonzero(lengths)
    order = stays[torch.randperm(len(stays), generator=generator).numpy()]
    batches: list[Ints] = []
    for start in range(0, len(order), pool_batches * size):
        pool = order[start : start + pool_batches * size]
        by_length = pool[np.argsort(lengths[pool], kind="stable")]
        batches += [by_length[i : i + size] for i in range(0, len(by_length), size)]
    shuffled: list[Ints] = []
    for start in range(0, len(batches), pool_batches):
        of_pool = batches[start : start + pool_batches]
        shuffled += [of_pool[j] for j in torch.randperm(len(of_pool), generator=generator).tolist()]
    return shuffled


def read_stays(x: StayInputs, stays: Ints, starts: Ints) -> tuple[Tensor, Ints]:
    """A tensor with the inputs of these stays, and the first row of each of them there.

    Args:
        x: The inputs of all stays.
        stays: The stays (s,).
        starts: The first row of each of them among all rows (s,).
    """
    return (x, starts) if isinstance(x, Tensor) else x.read(stays)


def read_ahead(x: StayInputs, items: Iterator[T]) -> Iterator[T]:
    """The items; those that are read from shards one ahead of their use."""
    return items if isinstance(x, Tensor) else prefetched(items)


def gather(rows: StayRows, stays: Ints, layout: Layout = packed) -> Batch:
    """The batch of these stays, each of which has rows, or ``rows.part`` of it.

    Where the part is empty, the longest stay takes its place, without weight.
    """
    longest_first = np.argsort(-rows.lengths[stays], kind="stable")
    own = np.arange(len(stays))[rows.part]
    is_empty = len(own) == 0
    own = np.zeros(1, np.int64) if is_empty else own
    order = longest_first[own]
    lengths, starts = rows.lengths[stays][order], rows.starts[stays][order]
    stay = np.repeat(np.arange(len(order)), lengths)
    step = np.arange(len(stay)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    position, batch_sizes = layout(lengths, stay, step)
    size = sum(batch_sizes)
    source_of = np.zeros(size, np.int64)
    source_of[position] = starts[stay] + step
    inputs, first_rows = read_stays(rows.x, stays[order], starts)
    input_of = np.zeros(size, np.int64)
    input_of[position] = first_rows[stay] + step
    stay_of = np.zeros(size, np.int64)
    stay_of[position] = own[stay]
    is_padding = np.ones(size, np.bool_)
    is_padding[position] = False
    device = rows.y.device
    source = torch.from_numpy(source_of).to(device)
    padding = torch.from_numpy(is_padding).to(device)
    return Batch(
        x=inputs.index_select(0, torch.from_numpy(input_of).to(device)),
        y=rows.y.index_select(0, source),
        weight=rows.weight.index_select(0, source).masked_fill_(padding | is_empty, 0.0),
        stay=torch.from_numpy(stay_of).to(device),
        padding=padding,
        batch_sizes=batch_sizes,
        stays=len(stays),
    )
