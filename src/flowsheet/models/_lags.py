"""Lagged features for models without a memory of their own: what the last steps held, row by row.

Every number of row k is made from rows up to k of the same stay, by shifts alone (no running sums
over the flat rows), so it is bit for bit the same whatever other stays stand beside it and whatever
follows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from flowsheet.typing import AnyFloats, Floats32, Ints
from flowsheet.windows.sequences import Feature, Sequences

_CHUNK_ROWS = 16_384


@dataclass(frozen=True)
class Lags:
    """Which lagged features: changes over so many steps, statistics and counts over the last so
    many.

    From F inputs of which V are values, M missing indicators and T treatments it makes
    F + (V + T) * D + 4 * V * S + (M + T) * C columns for D changes, S statistics and C counts.
    """

    changes: tuple[int, ...]
    """Of values and doses. Together with the current number they tell the one so many steps back."""
    statistics: tuple[int, ...]
    """Mean, standard deviation, smallest and largest of the known values."""
    counts: tuple[int, ...]
    """Measurements made, and the mean dose of each drug."""

    def names(self, features: tuple[Feature, ...]) -> list[str]:
        """The columns, in the order of :meth:`matrix`.

        >>> Lags((1,), (6,), (24,)).names((Feature("HR", "value", "HR"), Feature("HR_missing", "missing", "HR")))
        ['HR', 'HR_missing', 'HR:change1', 'HR:mean6', 'HR:std6', 'HR:min6', 'HR:max6', 'HR:count24']
        """
        values, missing, drugs = (
            [f for f in features if f.kind == kind] for kind in ("value", "missing", "treatment")
        )
        names = [f.name for f in features]
        names += [f"{f.name}:change{d}" for d in self.changes for f in values + drugs]
        names += [
            f"{f.name}:{s}{w}"
            for w in self.statistics
            for s in ("mean", "std", "min", "max")
            for f in values
        ]
        names += [f"{f.source}:count{w}" for w in self.counts for f in missing]
        return names + [f"{f.name}:mean{w}" for w in self.counts for f in drugs]

    def matrix(self, sequences: Sequences, rows: Ints | None = None) -> Floats32:
        """The features of the chosen rows (ascending; None: all), shape (len(rows), columns); NaN where unknown."""
        chosen = np.arange(sequences.rows) if rows is None else rows
        out = np.empty((len(chosen), len(self.names(sequences.features))), dtype=np.float32)
        for first, last in _chunks(sequences.offsets):
            low, high = np.searchsorted(chosen, [first, last])
            if low < high:
                x = np.asarray(sequences.x[first:last])
                age = _age(sequences.offsets, first, last)
                out[low:high] = self._chunk(sequences, x, age)[chosen[low:high] - first]
        return out

    def _chunk(self, sequences: Sequences, x: Floats32, age: Ints) -> Floats32:
        values = x[:, sequences.columns("value")]
        measured = 1 - x[:, sequences.columns("missing")]
        drugs = np.nan_to_num(x[:, sequences.columns("treatment")])
        both = np.concatenate([values, drugs], axis=1)
        parts: list[AnyFloats] = [x]
        parts += [both - _shift(both, d, age, np.nan) for d in self.changes]
        for w in self.statistics:
            parts += _moments(values, w, age)
            parts += [_extreme(values, w, age, np.fmin), _extreme(values, w, age, np.fmax)]
        parts += [_total(measured, w, age) for w in self.counts]
        parts += [_mean(drugs, w, age) for w in self.counts]
        return np.concatenate(parts, axis=1, dtype=np.float32)


def _chunks(offsets: Ints) -> Iterator[tuple[int, int]]:
    """Ranges of rows, each of whole stays and of about ``_CHUNK_ROWS`` rows."""
    cuts = np.arange(0, offsets[-1], _CHUNK_ROWS)
    edges = np.unique(np.append(offsets[np.searchsorted(offsets, cuts)], offsets[-1]))
    return ((int(a), int(b)) for a, b in pairwise(edges))


def _age(offsets: Ints, first: int, last: int) -> Ints:
    """For each row how many rows of its stay come before it."""
    rows = np.arange(first, last)
    return rows - offsets[np.searchsorted(offsets, rows, side="right") - 1]


def _shift(a: AnyFloats, steps: int, age: Ints, before: float) -> AnyFloats:
    """The rows ``steps`` back in the same stay; ``before`` where the stay had not begun."""
    out = np.full_like(a, before)
    out[steps:] = a[: max(len(a) - steps, 0)]
    out[age < steps] = before
    return out


def _total(a: AnyFloats, window: int, age: Ints) -> AnyFloats:
    """Sum over the last ``window`` rows of the stay, by doubling; ``a`` without NaN."""
    out, done = np.zeros_like(a), 0
    power, length = a, 1
    while True:
        if window & length:
            out = out + _shift(power, done, age, 0.0)
            done += length
        length *= 2
        if length > window:
            return out
        power = power + _shift(power, length // 2, age, 0.0)


def _mean(a: Floats32, window: int, age: Ints) -> Floats32:
    """Mean over the last ``window`` rows of the stay, fewer where it began later; ``a`` without NaN."""
    rows = np.minimum(age + 1, window).astype(np.float32)
    return np.divide(_total(a, window, age), rows[:, None], dtype=np.float32)


def _extreme(a: AnyFloats, window: int, age: Ints, pick: np.ufunc) -> AnyFloats:
    """Smallest or largest known value of the last ``window`` rows of the stay; NaN where none is known."""
    out, length = a, 1
    while length < window:
        step = min(length, window - length)
        out = pick(out, _shift(out, step, age, np.nan))
        length += step
    return out


def _moments(a: AnyFloats, window: int, age: Ints) -> list[Floats32]:
    """Mean and standard deviation of the known values among the last ``window`` rows of the stay."""
    known = ~np.isnan(a)
    centre = np.where(known, a, 0).astype(np.float64)
    count = _total(known.astype(np.float64), window, age)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = _total(centre, window, age) / count
        square = _total(centre * centre, window, age) / count
    std = np.sqrt(np.maximum(square - mean * mean, 0))
    return [mean.astype(np.float32), std.astype(np.float32)]
