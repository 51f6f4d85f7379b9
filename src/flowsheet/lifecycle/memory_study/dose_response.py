"""The effect of one dose on a model's predictions, by the steps since the dose."""

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


def sample_long_stays(sequences: Sequences, lags: int, max_stays: int, seed: int) -> Sequences:
    """A random sample of the stays of more than ``lags`` rows, in their order.

    Args:
        sequences: the stays to sample from.
        lags: a stay needs more rows than this.
        max_stays: the largest size of the sample.
        seed: of the sample.

    Raises:
        CheckFailed: no stay is long enough.
    """
    long = np.flatnonzero(sequences.lengths > lags)
    if len(long) == 0:
        raise CheckFailed(
            f"no held-out stay has more than {lags} steps, so effects cannot be followed that far",
            where=f"the longest stay has {int(sequences.lengths.max(initial=0))} steps",
            todo="choose fewer memory.lags, or a ward with longer stays",
        )
    sample = np.random.default_rng(seed).permutation(long)[:max_stays]
    return sequences.take(np.sort(sample))


def estimate_dose_response(
    predict: Predict, sequences: Sequences, column: int, *, dose: float, lags: int, seed: int
) -> Floats:
    """Log odds with one dose minus log odds without it, 0..lags steps after the dose.

    In each stay one row is drawn, early enough for all lags to follow; the drug's ``column`` of
    that row is set to ``dose`` in one copy and to 0 in the other. All other doses, the measurements
    and the response history stay as they were: the response is the *direct* effect of the dose.
    Lag 0 is the prediction made at the end of the step of the dose.

    Args:
        predict: the model.
        sequences: raw, S stays of more than ``lags`` rows each.
        column: of the drug's dose in ``sequences.x``.
        dose: in the drug's unit.
        lags: how many steps the response is followed.
        seed: of the drawn rows.

    Returns:
        Differences in log odds, shape (S, lags + 1).
    """
    n_candidates = sequences.lengths - lags
    position = np.floor(np.random.default_rng(seed).random(len(sequences)) * n_candidates)
    rows = sequences.offsets[:-1] + position.astype(np.int64)
    with_dose = log_odds(predict(_set_dose(sequences, rows, column, dose)))
    without_dose = log_odds(predict(_set_dose(sequences, rows, column, 0.0)))
    rows_after = rows[:, None] + np.arange(lags + 1)
    return np.asarray((with_dose - without_dose)[rows_after])


def _set_dose(sequences: Sequences, rows: Ints, column: int, amount: float) -> Sequences:
    x = np.array(sequences.x)
    x[rows, column] = amount
    return replace(sequences, x=x)


def compute_old_dose_effects(
    sequences: Sequences, columns: dict[str, int], curves: dict[str, Floats], min_lag: int
) -> Floats:
    """How strongly each stay depends on doses given ``min_lag`` steps ago or earlier.

    Args:
        sequences: raw, S stays.
        columns: of each drug's dose in ``sequences.x``.
        curves: each drug's true effect of one unit at lags 0, 1, ..., in log odds.
        min_lag: younger doses are not counted.

    Returns:
        The mean over a stay's rows of the absolute sum of the old doses' effects, shape (S,).
    """
    effect = np.zeros(sequences.rows)
    for drug, column in columns.items():
        lags = np.arange(len(curves[drug]))
        old_effect = np.where(lags >= min_lag, curves[drug], 0.0)
        doses = np.asarray(sequences.x[:, column], np.float64)
        for start, stop in zip(sequences.offsets[:-1], sequences.offsets[1:], strict=True):
            effect[start:stop] += np.convolve(doses[start:stop], old_effect)[: stop - start]
    totals = np.bincount(sequences.row_stay, np.abs(effect), len(sequences))
    return np.asarray(totals / sequences.lengths)
