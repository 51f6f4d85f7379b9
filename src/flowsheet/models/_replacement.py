"""Contributions of the inputs from predictions alone, for models without a way of their own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from flowsheet.models._row_matrix import select_stays_of
from flowsheet.models.base import Contributions, Model
from flowsheet.numerics import log_odds
from flowsheet.typing import Floats, Ints
from flowsheet.windows.sequences import Sequences


def explain_by_replacement(model: Model, sequences: Sequences, rows: Ints) -> Contributions:
    """Make one input after another unknown in all rows of the stays, until all of them are.

    An input contributes the change of the log odds when it is made unknown; the mean of two orders,
    first to last and last to first, because the change depends on what is known besides. This is
    the Shapley value of Strumbelj and Kononenko (2014, doi 10.1007/s10115-013-0679-x) with two
    permutations. It adds up exactly.
    """
    own_stays, own_rows = select_stays_of(sequences, rows)
    inputs = own_stays.x.shape[1] + own_stays.history.shape[1]
    values = np.zeros((len(rows), inputs))
    known = baseline = np.empty(0)
    for order in (range(inputs), range(inputs)[::-1]):
        current = own_stays
        known = before = _log_odds(model, current, own_rows)
        for j in order:
            current = _make_unknown(current, j, 0.0 if model.capabilities.scaled else np.nan)
            after = _log_odds(model, current, own_rows)
            values[:, j] += (before - after) / 2
            before = after
        baseline = before
    return Contributions.of_rows(rows, baseline, known, values)


def _log_odds(model: Model, sequences: Sequences, rows: Ints) -> Floats:
    return log_odds(model.predict_proba(sequences)[rows], smallest=1e-15)


def _make_unknown(sequences: Sequences, column: int, unknown: float) -> Sequences:
    """The sequences without what is known of one input: a feature, or a lag of the response."""
    features = sequences.x.shape[1]
    if column < features:
        x = np.array(sequences.x)
        x[:, column] = unknown
        return replace(sequences, x=x)
    history = np.array(sequences.history)
    history[:, column - features] = np.nan
    return replace(sequences, history=history)
