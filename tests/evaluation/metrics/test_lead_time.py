"""Lead times and detected episodes of stays."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowsheet.evaluation.metrics import get_metric
from flowsheet.evaluation.metrics.base import Sample
from tests.evaluation.metrics.helpers import stay_rows

nan = np.nan


def test_lead_time_is_the_median_over_detected_onsets():
    lead_time = get_metric("lead_time")
    assert lead_time(stay_rows([1, 1, 1, 1, 1, 0], [24, nan, 72, 48, 48, nan])) == 48
    assert lead_time(stay_rows([1, 1, 0], [24, 48, nan])) == 36
    assert np.isnan(lead_time(stay_rows([1, 0], [nan, nan])))


def test_episodes_detected_is_the_share_of_onsets_with_an_earlier_alert():
    detected = get_metric("episodes_detected")
    stays = stay_rows([1, 1, 1, 1, 1, 0], [24, nan, 72, 48, 48, nan])
    assert detected(stays) == pytest.approx(0.8)
    assert detected(stay_rows([1, 0], [nan, nan])) == 0


@given(
    hours=st.lists(st.sampled_from([nan, 6.0, 12.0, 24.0, 48.0]), min_size=3, max_size=20),
    seed=st.integers(0, 2**20),
)
def test_a_weighted_median_is_the_median_of_repeated_stays(hours, seed):
    hours = np.array([*hours, nan, 3.0])
    stays = stay_rows(np.ones(len(hours)), hours)
    weights = np.random.default_rng(seed).integers(0, 4, (len(hours), 3)).astype(float)
    medians = get_metric("lead_time").compute(Sample(stays, weights))
    for sample_weights, median in zip(weights.T, medians, strict=True):
        repeated = np.repeat(hours, sample_weights.astype(int))
        known = repeated[~np.isnan(repeated)]
        assert median == pytest.approx(np.median(known) if len(known) else nan, nan_ok=True)
