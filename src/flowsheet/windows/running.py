"""Sums and extremes over the rows of a stay up to each row.

They are computed from rows of the same stay by shifts alone (no running sums over the flat rows):
the result of a row is the same to the last bit, whatever other stays and later rows there are.
"""

from __future__ import annotations

import numpy as np

from flowsheet.typing import AnyFloats, Ints


def shift(a: AnyFloats, steps: int, rows_before: Ints, fill: float) -> AnyFloats:
    """The rows ``steps`` back in the same stay; ``fill`` where that is before the stay.

    Args:
        a: One line a row (N, D).
        steps: How far back.
        rows_before: How many rows of its stay are before each row (N,).
        fill: What rows before the stay read.
    """
    out = np.full_like(a, fill)
    out[steps:] = a[: max(len(a) - steps, 0)]
    out[rows_before < steps] = fill
    return out


def add_window(a: AnyFloats, window: int, rows_before: Ints) -> AnyFloats:
    """Sum over the last ``window`` rows of the stay, by doubling; ``a`` without NaN."""
    out, done = np.zeros_like(a), 0
    power, length = a, 1
    while True:
        if window & length:
            out = out + shift(power, done, rows_before, 0.0)
            done += length
        length *= 2
        if length > window:
            return out
        power = power + shift(power, length // 2, rows_before, 0.0)


def add_so_far(a: AnyFloats, rows_before: Ints, decay: float = 1.0) -> AnyFloats:
    """Sum over all rows of the stay so far, by doubling; ``a`` without NaN.

    A row n rows back counts ``decay`` to the power of n.
    """
    out, length = a, 1
    longest = int(rows_before.max(initial=0)) + 1
    while length < longest:
        out = out + decay**length * shift(out, length, rows_before, 0.0)
        length *= 2
    return out


def pick_extreme(a: AnyFloats, window: int, rows_before: Ints, pick: np.ufunc) -> AnyFloats:
    """Minimum or maximum of the known values of the last ``window`` rows; NaN without any.

    Args:
        a: One line a row (N, D), NaN where nothing is known.
        window: How many rows, the row itself included.
        rows_before: How many rows of its stay are before each row (N,).
        pick: ``np.fmin`` or ``np.fmax``.
    """
    out, length = a, 1
    while length < window:
        step = min(length, window - length)
        out = pick(out, shift(out, step, rows_before, np.nan))
        length += step
    return out
