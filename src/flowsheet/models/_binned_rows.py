"""Rows for LightGBM, which keeps them in binned form: a byte a value at most.

The columns are computed from the stays in batches, once for a sample that the bins are chosen on
and once to be binned, and are never all in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import lightgbm
import numpy as np

from flowsheet.models._row_matrix import RowMatrix, prefetched
from flowsheet.models._rows import Rows
from flowsheet.typing import AnyFloats, Floats, Floats32

BATCH_ROWS = 1 << 12


class _RowSequence(lightgbm.Sequence):  # type: ignore[misc]
    """Reads rows in ascending order: single ones, then all in batches."""

    batch_size = BATCH_ROWS
    batches: Iterator[tuple[slice, Floats32]]
    rows: slice
    batch: Floats32
    """The columns of ``rows``."""

    def __init__(self, matrix: RowMatrix) -> None:
        self.matrix = matrix
        self._start_again()

    def __len__(self) -> int:
        return len(self.matrix)

    def __getitem__(self, key: Any) -> AnyFloats:
        if isinstance(key, slice):
            self._seek(key.start)
            return self.batch
        self._seek(key)
        row: Floats = self.batch[key - self.rows.start].astype(np.float64)
        return row

    def _seek(self, row: int) -> None:
        """Read on to the batch that has this row."""
        if row < self.rows.start:
            self._start_again()
        while row >= self.rows.stop:
            self.rows, self.batch = next(self.batches)

    def _start_again(self) -> None:
        self.batches = prefetched(self.matrix.chunks(self.batch_size))
        self.rows = slice(0, 0)


def bin_rows(
    rows: Rows, settings: dict[str, Any], reference: lightgbm.Dataset | None = None
) -> lightgbm.Dataset:
    """The rows in binned form.

    Args:
        rows: Rows with labels.
        settings: LightGBM's parameters.
        reference: The rows whose bins are used; None: bins of their own.
    """
    data = lightgbm.Dataset(
        _RowSequence(rows.x), rows.y, params=settings, reference=reference, free_raw_data=True
    )
    return data.construct()
