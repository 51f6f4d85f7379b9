"""Rows for the tests of metrics, and their values."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flowsheet.config import EvaluationConfig
from flowsheet.evaluation.metrics import ScoredRows, get_metric, select_metrics


@st.composite
def labelled_probabilities(draw, low=0.0, high=1.0):
    """(y, p) with both classes and many ties."""
    size = draw(st.integers(2, 60))
    y = draw(hnp.arrays(np.int8, size, elements=st.integers(0, 1)))
    y[0], y[1] = 0, 1
    levels = st.integers(0, 8).map(lambda i: low + (high - low) * i / 8)
    p = draw(hnp.arrays(np.float64, size, elements=levels))
    return y, p


def compute(name, y, p, is_alert=None):
    return get_metric(name)(ScoredRows.from_arrays(y, p, is_alert))


def default_metrics():
    """The metrics of an evaluation with the default operating points."""
    config = EvaluationConfig(name="default")
    return select_metrics(config.operating_points, config.metric)


def stay_rows(y, lead_time):
    """One row a stay, each of its own subject."""
    position = np.arange(len(y))
    return ScoredRows(
        y=np.array(y, np.int8),
        p=np.full(len(y), 0.5),
        subject=position,
        stay=position,
        step=np.ones(len(y), np.int64),
        n_subjects=len(y),
        is_alert=~np.isnan(lead_time),
        is_per_stay=True,
        lead_time=np.array(lead_time, float),
    )
