"""Rows for LightGBM, which keeps them in binned form: a byte a value at most.

The columns are computed from the stays in batches, those of a sample first, on which the bins are
chosen, then those of all rows to be binned, and are never all in memory.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import lightgbm
import numpy as np

from flowsheet.models._row_matrix import RowMatrix, prefetched
from flowsheet.models._rows import Rows
from flowsheet.typing import AnyFloats, Floats, Floats32, Ints

BATCH_ROWS = 1 << 12
PART_ROWS = 1 << 17
"""Rows of a part of :func:`bin_parts`."""
DENSE_ROWS = 1 << 20
"""From so many rows on no column is kept as a list of the rows that are not in its most frequent
bin. Such lists are smaller, but until all rows are read they take 8 to 16 bytes for each of these.
The sums that the trees are grown by are then in another order."""

_log = logging.getLogger("lightgbm")
_log.setLevel(logging.ERROR)  # its warnings are about its own parameters; errors are raised
lightgbm.register_logger(_log)


class _RowSequence(lightgbm.Sequence):  # type: ignore[misc]
    """Reads rows in ascending order: those of a sample one by one, then all in batches."""

    batch_size = BATCH_ROWS
    batches: Iterator[tuple[slice, Floats32]]
    rows: slice
    batch: Floats32
    """The columns of ``rows``."""

    def __init__(self, matrix: RowMatrix) -> None:
        self.matrix = matrix
        self.sample: Iterator[tuple[int, Floats32]] = iter(())
        self._start_again()

    def __len__(self) -> int:
        return len(self.matrix)

    def __getitem__(self, key: Any) -> AnyFloats:
        if isinstance(key, slice):
            self._seek(key.start)
            return self.batch
        row: Floats = self._read(key).astype(np.float64)
        return row

    def _read(self, key: int) -> Floats32:
        """The columns of a row: the next one of the sample, or any later one."""
        for row, columns in self.sample:
            if row == key:
                return columns
        self._seek(key)
        own: Floats32 = self.batch[key - self.rows.start]
        return own

    def expect(self, rows: Ints) -> None:
        """Compute these rows, in ascending order, without those between them."""
        chunks = replace(self.matrix, rows=self.matrix.rows[rows]).chunks(self.batch_size)
        columns = (row for _, chunk in prefetched(chunks) for row in chunk)
        self.sample = zip(rows.tolist(), columns, strict=True)

    def _seek(self, row: int) -> None:
        """Read on to the batch that has this row."""
        if row < self.rows.start:
            self._start_again()
        while row >= self.rows.stop:
            self.rows, self.batch = next(self.batches)

    def _start_again(self) -> None:
        self.batches = prefetched(self.matrix.chunks(self.batch_size))
        self.rows = slice(0, 0)


class _Dataset(lightgbm.Dataset):  # type: ignore[misc]
    """Tells the rows which of them the bins are chosen on, before they are read."""

    def __init__(self, rows: _RowSequence, **arguments: Any) -> None:
        super().__init__(rows, **arguments)
        self.row_sequence = rows

    def _create_sample_indices(self, *, total_nrow: int) -> Ints:
        """As LightGBM draws them."""
        sample: Ints = super()._create_sample_indices(total_nrow=total_nrow)
        self.row_sequence.expect(np.sort(sample))
        return sample


def bin_rows(
    rows: Rows, settings: dict[str, Any], reference: lightgbm.Dataset | None = None
) -> lightgbm.Dataset:
    """The rows in binned form.

    Args:
        rows: Rows with labels.
        settings: LightGBM's parameters.
        reference: The rows whose bins, and parameters, are used; None: bins of their own.
    """
    if reference:
        settings = reference.get_params()
    elif len(rows.y) >= DENSE_ROWS:
        settings = {**settings, "is_enable_sparse": False}
    data = _Dataset(
        _RowSequence(rows.x),
        label=rows.y,
        params=settings,
        reference=reference,
        free_raw_data=True,
    )
    data.construct()
    del data.row_sequence  # boosters keep the data, which would keep the last batches
    return data


def bin_parts(
    rows: Rows, settings: dict[str, Any], reference: lightgbm.Dataset
) -> Iterator[lightgbm.Dataset]:
    """The rows in binned form, ``PART_ROWS`` at a time: what is needed to read one is freed.

    Args:
        rows: Rows with labels.
        settings: LightGBM's parameters.
        reference: The rows whose bins are used.
    """
    for start in range(0, len(rows.y), PART_ROWS):
        part = slice(start, start + PART_ROWS)
        yield bin_rows(
            Rows(rows.x.part(part), rows.y[part], rows.subject[part]), settings, reference
        )
