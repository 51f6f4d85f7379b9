"""Lagged features, row by row, for models that have no memory.

The features of row k are computed from rows up to k of the same stay, by shifts alone (no running
sums over the flat rows). They are thus the same to the last bit, whatever other stays and later
rows there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from flowsheet.typing import AnyFloats, Floats32, Ints
from flowsheet.windows.running import add_window, pick_extreme, shift
from flowsheet.windows.sequences import Feature, Sequences

_CHUNK_ROWS = 16_384


@dataclass(frozen=True)
class Lags:
    """The lags and window lengths of the features, in steps.

    From F inputs, of which V are values, M missing indicators and T treatments, it computes
    F + (V + T) * D + 4 * V * S + (M + T) * C columns for D changes, S statistics and C counts.
    """

    changes: tuple[int, ...]
    """Lags of the changes of values and doses."""
    statistics: tuple[int, ...]
    """Windows of the mean, standard deviation, minimum and maximum of the known values."""
    counts: tuple[int, ...]
    """Windows of the number of measurements, and of the mean dose of each drug."""

    def names(self, features: tuple[Feature, ...]) -> list[str]:
        """The columns, in the order of :meth:`matrix`.

        >>> features = (Feature("HR", "value", "HR"), Feature("HR_missing", "missing", "HR"))
        >>> Lags((1,), (6,), (24,)).names(features)[2:]
        ['HR:change1', 'HR:mean6', 'HR:std6', 'HR:min6', 'HR:max6', 'HR:count24']
        """
        values = [f.name for f in features if f.kind == "value"]
        measured = [f.source for f in features if f.kind == "missing"]
        drugs = [f.name for f in features if f.kind == "treatment"]
        names = [f.name for f in features]
        names += [f"{name}:change{lag}" for lag in self.changes for name in values + drugs]
        for window in self.statistics:
            for statistic in ("mean", "std", "min", "max"):
                names += [f"{name}:{statistic}{window}" for name in values]
        names += [f"{name}:count{window}" for window in self.counts for name in measured]
        names += [f"{name}:mean{window}" for window in self.counts for name in drugs]
        return names

    def origins(self, features: tuple[Feature, ...]) -> Ints:
        """The feature that each column is made from, in the order of :meth:`names`."""

        def positions(*kinds: str) -> list[int]:
            return [i for i, feature in enumerate(features) if feature.kind in kinds]

        values, measured, drugs = positions("value"), positions("missing"), positions("treatment")
        origins = list(range(len(features)))
        origins += (values + drugs) * len(self.changes)
        origins += values * 4 * len(self.statistics)
        origins += measured * len(self.counts)
        origins += drugs * len(self.counts)
        return np.array(origins, np.int64)

    def matrix(self, sequences: Sequences, rows: Ints | None = None) -> Floats32:
        """The features of the chosen rows (n, columns); NaN where unknown.

        ``rows`` are in ascending order; None: all.
        """
        chosen = np.arange(sequences.rows) if rows is None else rows
        out = np.empty((len(chosen), len(self.names(sequences.features))), dtype=np.float32)
        for first, last in _chunks(sequences.offsets):
            low, high = np.searchsorted(chosen, [first, last])
            if low < high:
                x = np.asarray(sequences.x[first:last])
                rows_before = _count_rows_before(sequences.offsets, first, last)
                out[low:high] = self._compute(sequences, x, rows_before)[chosen[low:high] - first]
        return out

    def _compute(self, sequences: Sequences, x: Floats32, rows_before: Ints) -> Floats32:
        values = x[:, sequences.columns("value")]
        measured = 1 - x[:, sequences.columns("missing")]
        drugs = np.nan_to_num(x[:, sequences.columns("treatment")])
        changing = np.concatenate([values, drugs], axis=1)
        parts: list[AnyFloats] = [x]
        parts += [changing - shift(changing, lag, rows_before, np.nan) for lag in self.changes]
        for window in self.statistics:
            parts += _mean_and_std(values, window, rows_before)
            parts += [
                pick_extreme(values, window, rows_before, pick) for pick in (np.fmin, np.fmax)
            ]
        parts += [add_window(measured, window, rows_before) for window in self.counts]
        parts += [_mean(drugs, window, rows_before) for window in self.counts]
        return np.concatenate(parts, axis=1, dtype=np.float32)


def _chunks(offsets: Ints) -> Iterator[tuple[int, int]]:
    """Ranges of about ``_CHUNK_ROWS`` rows, each of whole stays."""
    cuts = np.arange(0, offsets[-1], _CHUNK_ROWS)
    edges = np.unique(np.append(offsets[np.searchsorted(offsets, cuts)], offsets[-1]))
    return ((int(a), int(b)) for a, b in pairwise(edges))


def _count_rows_before(offsets: Ints, first: int, last: int) -> Ints:
    """For each row the number of rows of its stay before it."""
    rows = np.arange(first, last)
    return rows - offsets[np.searchsorted(offsets, rows, side="right") - 1]


def _mean(a: Floats32, window: int, rows_before: Ints) -> Floats32:
    """Mean over the last ``window`` rows of the stay, or all of its rows; ``a`` without NaN."""
    rows = np.minimum(rows_before + 1, window).astype(np.float32)
    return np.divide(add_window(a, window, rows_before), rows[:, None], dtype=np.float32)


def _mean_and_std(a: AnyFloats, window: int, rows_before: Ints) -> list[Floats32]:
    """Mean and standard deviation of the known values of the last ``window`` rows."""
    known = ~np.isnan(a)
    filled = np.where(known, a, 0).astype(np.float64)
    count = add_window(known.astype(np.float64), window, rows_before)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = add_window(filled, window, rows_before) / count
        mean_square = add_window(filled * filled, window, rows_before) / count
    std = np.sqrt(np.maximum(mean_square - mean * mean, 0))
    return [mean.astype(np.float32), std.astype(np.float32)]
