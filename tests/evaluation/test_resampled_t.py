"""The corrected resampled t-test."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from flowsheet.evaluation.resampled_t import corrected_t_test


@given(d=st.lists(st.floats(-1, 1), min_size=2, max_size=20))
def test_without_overlap_it_is_the_ordinary_t_test(d):
    d = np.round(np.array(d), 3)
    corrected = corrected_t_test(d, 0.0, 0.95)
    if d.std() > 0:
        ordinary = stats.ttest_1samp(d, 0)
        interval = tuple(ordinary.confidence_interval(0.95))
        assert corrected.p == pytest.approx(ordinary.pvalue, abs=1e-9)
        assert (corrected.low, corrected.high) == pytest.approx(interval, abs=1e-9)
        assert corrected_t_test(d, 0.25, 0.95).p >= corrected.p


def test_it_equals_the_formula():
    d = np.array([0.02, 0.05, -0.01, 0.03, 0.04])
    t = d.mean() / math.sqrt((1 / 5 + 0.25) * d.var(ddof=1))
    assert corrected_t_test(d, 0.25, 0.95).p == pytest.approx(2 * stats.t.sf(t, 4))


def test_an_undefined_fold_leaves_the_mean_and_no_test():
    difference = corrected_t_test(np.array([0.1, np.nan, 0.2]), 0.25, 0.95)
    assert difference.value == pytest.approx(0.15)
    assert math.isnan(difference.p)


def test_a_single_fold_has_no_test():
    assert math.isnan(corrected_t_test(np.array([0.1]), 0.25, 0.95).p)


@pytest.mark.slow
def test_the_corrected_test_has_its_level_where_the_ordinary_one_has_not():
    # two equal learners: each estimates a mean from its training part, with errors of its own
    n_significant = {0.0: 0, 0.25: 0}
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        truth, errors = rng.normal(size=100), rng.normal(size=(2, 100))
        fold = rng.permutation(100) % 5
        losses = [
            [
                ((truth[fold == k] - (truth + error)[fold != k].mean()) ** 2).mean()
                for error in errors
            ]
            for k in range(5)
        ]
        differences = np.subtract(*np.array(losses).T)
        for test_to_training in n_significant:
            p = corrected_t_test(differences, test_to_training, 0.95).p
            n_significant[test_to_training] += p < 0.05
    assert n_significant[0.25] <= 65
    assert n_significant[0.0] > n_significant[0.25]
