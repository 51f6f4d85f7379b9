"""Random blocks of rows, for networks that are trained on single rows.

More rows than ``POOL_ROWS`` are never in memory at once: the stays are divided at random into
pools, one pool is read at a time, and its rows are drawn in random order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

import numpy as np
import torch
from torch import Tensor

from flowsheet.models._batching import (
    Batch,
    Layout,
    StayRows,
    TrainingRows,
    draw_batches,
    gather,
)
from flowsheet.models._row_matrix import prefetched
from flowsheet.models._rows import Rows
from flowsheet.typing import Ints

BLOCK_ROWS = 8
"""The training loop works on stays; a block of this many random rows takes the place of a stay."""
POOL_ROWS = 1 << 16
"""Rows of a pool, about."""


def draw_blocks(rows: Rows, generator: torch.Generator, device: torch.device) -> TrainingRows:
    """The rows in random order, in blocks.

    Args:
        rows: The rows.
        generator: Draws the order, and the pools.
        device: Where the rows are needed.
    """
    order = torch.randperm(len(rows.y), generator=generator).numpy()
    pools = -(-len(order) // POOL_ROWS)
    if pools == 1:
        return _read_blocks(rows, order, device)
    stays = rows.x.sequences
    pool_of_stay = torch.randint(pools, (len(stays),), generator=generator).numpy()
    pool = pool_of_stay[stays.row_stay[rows.x.rows[order]]]
    members = [order[pool == i] for i in range(pools)]
    return RowPools(rows, tuple(own for own in members if len(own)), device)


@dataclass(frozen=True)
class RowPools:
    """The rows of pools of stays."""

    rows: Rows
    pools: tuple[Ints, ...]
    """The positions of the rows of each pool, in the order of its blocks."""
    device: torch.device

    @property
    def weight(self) -> Tensor:
        """Every row counts."""
        return torch.ones(len(self.rows.y))

    @property
    def lengths(self) -> Ints:
        """Rows of each block, the blocks of one pool after those of another."""
        return np.concatenate([_cut(len(pool)) for pool in self.pools])

    def draw(self, size: int, generator: torch.Generator) -> Sequence[tuple[int, Ints]]:
        """The pool and the blocks of each batch, pool by pool in random order."""
        pools = torch.randperm(len(self.pools), generator=generator).tolist()
        return [
            (pool, blocks)
            for pool in pools
            for blocks in draw_batches(_cut(len(self.pools[pool])), size, generator)
        ]

    def gather(self, drawn: Sequence[tuple[int, Ints]], layout: Layout) -> Iterator[Batch]:
        """The batches; the next pool is read while one is used."""
        by_pool = [(pool, list(batches)) for pool, batches in groupby(drawn, itemgetter(0))]
        read = (_read_blocks(self.rows, self.pools[pool], self.device) for pool, _ in by_pool)
        for blocks, (_, batches) in zip(prefetched(read), by_pool, strict=True):
            for _, chosen in batches:
                yield gather(blocks, chosen, layout)


def _read_blocks(rows: Rows, order: Ints, device: torch.device) -> StayRows:
    """The rows at these positions."""
    lengths = _cut(len(order))
    return StayRows(
        x=torch.from_numpy(rows.x.take(order)).to(device),
        y=torch.from_numpy(rows.y[order].astype(np.float32)).to(device),
        weight=torch.ones(len(order), device=device),
        starts=np.cumsum(lengths) - lengths,
        lengths=lengths,
    )


def _cut(rows: int) -> Ints:
    """Rows of each of the blocks of so many rows."""
    return np.minimum(rows - np.arange(0, rows, BLOCK_ROWS), BLOCK_ROWS)
