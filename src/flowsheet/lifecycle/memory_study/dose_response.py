"""What one dose does to a model's predictions, by the steps since it was given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from flowsheet.errors import CheckFailed
from flowsheet.numerics import log_odds
from flowsheet.typing import Floats, Ints
from flowsheet.windows.sequences import Sequences

Predict = Callable[[Sequences], Floats]
"""Probabilities (N,) of raw, unscaled sequences."""


def long_stays(sequences: Sequences, lags: int, most: int, seed: int) -> Sequences:
    """At most so many stays of more than ``lags`` rows, drawn by the seed and in their order.

    Raises:
        CheckFailed: no stay is long enough.
    """
    long = np.flatnonzero(sequences.lengths > lags)
    if len(long) == 0:
        raise CheckFailed(
            f"no held-out stay has more than {lags} steps, so nothing can be followed that far",
            where=f"the longest has {int(sequences.lengths.max(initial=0))}",
            todo="choose fewer memory.lags, or a ward of longer stays",
        )
    chosen = np.random.default_rng(seed).permutation(long)[:most]
    return sequences.take(np.sort(chosen))


def dose_response(
    predict: Predict, sequences: Sequences, column: int, *, dose: float, lags: int, seed: int
) -> Floats:
    """Log odds with one dose added less those with it absent, 0..lags steps after it, shape (S,
    lags + 1).

    In each stay one row is drawn, early enough for all lags to follow; the drug's ``column`` of
    that row is set to ``dose`` in one copy and to 0 in the other. Everything else, what the patient
    was given before and after, the readings and the response history, is held as it was: the
    response is the *direct* effect of the dose. Lag 0 is the prediction made at the end of the
    dose's own step, of the step that follows it.

    ``sequences`` are raw, every stay of more than ``lags`` rows.
    """
    place = np.floor(
        np.random.default_rng(seed).random(len(sequences)) * (sequences.lengths - lags)
    ).astype(np.int64)
    rows = sequences.offsets[:-1] + place
    given, absent = (
        log_odds(predict(_with(sequences, rows, column, amount))) for amount in (dose, 0.0)
    )
    after = rows[:, None] + np.arange(lags + 1)
    return np.asarray((given - absent)[after])


def _with(sequences: Sequences, rows: Ints, column: int, amount: float) -> Sequences:
    x = np.array(sequences.x)
    x[rows, column] = amount
    return replace(sequences, x=x)


def old_doses(
    sequences: Sequences, columns: dict[str, int], curves: dict[str, Floats], since: int
) -> Floats:
    """How much each stay owes to doses given ``since`` steps ago or earlier, shape (S,).

    The mean over a stay's rows of the absolute sum of their true effects, in log odds; ``curves``
    holds each drug's effect of one unit at lags 0, 1, ...
    """
    owed = np.zeros(sequences.rows)
    for drug, column in columns.items():
        late = np.where(np.arange(len(curves[drug])) >= since, curves[drug], 0.0)
        given = np.asarray(sequences.x[:, column], np.float64)
        for start, stop in zip(sequences.offsets[:-1], sequences.offsets[1:], strict=True):
            owed[start:stop] += np.convolve(given[start:stop], late)[: stop - start]
    return np.bincount(sequences.row_stay, np.abs(owed), len(sequences)) / sequences.lengths
