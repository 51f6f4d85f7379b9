"""Which columns have values in the rows of each stay, counted when the windows are built."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from flowsheet.typing import Bools, Ints, Ints32
from flowsheet.windows.sequences import Feature, Sequences

_MISSING_FILE = "missing.npy"
_FILLED_FILE = "filled.npy"


@dataclass(frozen=True)
class ColumnFill:
    """Of S stays, F columns and V variables."""

    missing: Ints32  # (S, V) rows in which no value column of the variable has a value
    filled: Bools  # (S, F) in some row the column is neither unknown nor 0

    @classmethod
    def count(cls, sequences: Sequences) -> ColumnFill:
        """Count the rows of each stay. A number of measurements, 0, is no value."""
        x = np.asarray(sequences.x)
        is_known = ~np.isnan(x)
        has_value = is_known & (x != 0)
        columns = list_value_columns(sequences.features)
        missing = np.empty((len(x), len(columns)), np.bool_)
        for j, (variable, positions) in enumerate(columns.items()):
            measured = np.zeros(len(x), bool)
            for i in positions:
                is_count = sequences.features[i].name == f"{variable}_count"
                measured |= has_value[:, i] if is_count else is_known[:, i]
            missing[:, j] = ~measured
        counts = np.empty((len(sequences), len(columns)), np.int32)
        filled = np.empty((len(sequences), x.shape[1]), np.bool_)
        for stay, (first, last) in enumerate(pairwise(sequences.offsets.tolist())):
            missing[first:last].sum(axis=0, out=counts[stay])
            has_value[first:last].any(axis=0, out=filled[stay])  # far faster than reduceat
        return cls(counts, filled)

    @classmethod
    def concat(cls, parts: Sequence[ColumnFill]) -> ColumnFill:
        """One below the other."""
        return cls(
            np.concatenate([part.missing for part in parts]),
            np.concatenate([part.filled for part in parts]),
        )

    def take(self, stays: Ints | Bools) -> ColumnFill:
        """The stays at these positions or of a mask."""
        return ColumnFill(self.missing[stays], self.filled[stays])

    def save(self, folder: Path) -> None:
        """Write the counts into an existing folder."""
        np.save(folder / _MISSING_FILE, self.missing, allow_pickle=False)
        packed = np.packbits(self.filled, axis=1)
        np.save(folder / _FILLED_FILE, packed, allow_pickle=False)

    @classmethod
    def load(cls, folder: Path, columns: int) -> ColumnFill:
        """Read what :meth:`save` wrote, of sequences with so many columns."""
        packed = np.load(folder / _FILLED_FILE, allow_pickle=False)
        filled = np.unpackbits(packed, axis=1, count=columns).astype(bool)
        return cls(np.load(folder / _MISSING_FILE, allow_pickle=False), filled)


def list_value_columns(features: Sequence[Feature]) -> dict[str, list[int]]:
    """By variable, the positions of the columns with its values."""
    columns: dict[str, list[int]] = {}
    for i, feature in enumerate(features):
        if feature.kind == "value":
            columns.setdefault(feature.source, []).append(i)
    return columns
