"""Lagged features against a plain loop over the rows of each stay."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsheet.models import _lags
from flowsheet.models._lags import Lags
from flowsheet.testing.sequences import toy_sequences

LAGS = Lags(changes=(1, 3), statistics=(2, 5), counts=(3, 7))


def compute_row(sequences, lags, row):
    """The features of one row, from the rows of its stay up to it."""
    stay = np.searchsorted(sequences.offsets, row, side="right") - 1
    past = sequences.x[sequences.offsets[stay] : row + 1].astype(np.float64)
    values = past[:, sequences.columns("value")]
    missing = past[:, sequences.columns("missing")]
    drugs = past[:, sequences.columns("treatment")]
    changing = np.concatenate([values, drugs], axis=1)
    parts = [past[-1]]
    for lag in lags.changes:
        has_lag = lag < len(past)
        parts.append(changing[-1] - (changing[-1 - lag] if has_lag else np.nan))
    for window in lags.statistics:
        for statistic in (np.mean, np.std, np.min, np.max):
            parts.append(of_known_values(statistic, values[-window:]))
    parts += [(1 - missing[-window:]).sum(axis=0) for window in lags.counts]
    parts += [drugs[-window:].mean(axis=0) for window in lags.counts]
    return np.concatenate(parts)


def of_known_values(statistic, values):
    known = (column[~np.isnan(column)] for column in values.T)
    return np.array([statistic(column) if len(column) else np.nan for column in known])


@given(seed=st.integers(0, 10_000), chunk=st.integers(1, 60))
@settings(max_examples=20, deadline=None)
def test_every_row_is_computed_from_its_own_past(seed, chunk):
    sequences = toy_sequences(8, seed, raw=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_lags, "_CHUNK_ROWS", chunk)
        matrix = LAGS.matrix(sequences)
    assert matrix.shape == (sequences.rows, len(LAGS.names(sequences.features)))
    expected = np.array([compute_row(sequences, LAGS, row) for row in range(sequences.rows)])
    np.testing.assert_allclose(matrix, expected, rtol=1e-4, atol=1e-3)


def test_chosen_rows_equal_those_of_the_whole_matrix():
    sequences = toy_sequences(30, 1, raw=True)
    rows = np.flatnonzero(sequences.scored)
    assert LAGS.matrix(sequences, rows).tobytes() == LAGS.matrix(sequences)[rows].tobytes()


def test_other_stays_and_later_rows_do_not_change_a_bit():
    sequences = toy_sequences(30, 2, raw=True)
    whole = LAGS.matrix(sequences)
    chosen = np.array([17, 4])
    rows = np.concatenate([np.arange(*sequences.offsets[s : s + 2]) for s in chosen])
    assert LAGS.matrix(sequences.take(chosen)).tobytes() == whole[rows].tobytes()
    later = sequences.step > 3
    x = np.where(later[:, None], np.float32(1e6), sequences.x)
    assert LAGS.matrix(replace(sequences, x=x))[~later].tobytes() == whole[~later].tobytes()
