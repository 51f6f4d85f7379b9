from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsheet.monitoring.sketch import QUANTILES, Sketch, effective, kolmogorov, ks_statistic

SAMPLES = st.tuples(
    st.integers(0, 2**31), st.integers(20, 3000), st.integers(20, 800), st.sampled_from([2, 9, 0])
)


def drawn(seed: int, n: int, distinct: int) -> np.ndarray:
    """Normal values, or few distinct ones."""
    values = np.random.default_rng(seed).normal(size=n)
    return np.round(values * distinct) / distinct if distinct else values


@given(SAMPLES)
@settings(max_examples=150, deadline=None)
def test_the_distance_never_exceeds_the_true_one(case):
    seed, n, m, distinct = case
    then, now = drawn(seed, n, distinct), drawn(seed + 1, m, distinct) + seed % 3 / 4
    sketch = Sketch.of(then, np.arange(n))
    true = ks_statistic(then, now)
    assert true - 2 * sketch.resolution - 1e-12 <= sketch.distance(now) <= true + 1e-12


@given(SAMPLES)
@settings(max_examples=50, deadline=None)
def test_the_quantiles_are_within_their_resolution_of_the_values(case):
    seed, n, _, distinct = case
    values = drawn(seed, n, distinct)
    sketch = Sketch.of(values, np.arange(n))
    assert ks_statistic(values, sketch.values) <= sketch.resolution + 1e-12


def test_nobody_can_be_read_off():
    """Each quantile stands for at least five values, and the extremes are not among them."""
    values = np.arange(5000.0)
    sketch = Sketch.of(values, np.arange(5000))
    assert len(sketch.quantiles) == QUANTILES
    assert 0.0 not in sketch.quantiles
    assert 4999.0 not in sketch.quantiles
    assert len(Sketch.of(values[:99], np.arange(99)).quantiles) == 19
    assert Sketch.of(values[:4], np.arange(4)).quantiles == ()


def test_a_sketch_survives_json():
    sketch = Sketch.of(np.random.default_rng(0).normal(size=100), np.arange(100))
    assert Sketch.model_validate_json(sketch.model_dump_json()) == sketch


def test_stays_of_one_patient_count_as_one():
    assert effective(np.repeat(np.arange(10), 3)) == pytest.approx(10)
    assert effective(np.array([1, 1, 1, 2])) == pytest.approx(16 / 10)
    assert effective(np.array([], int)) == 0


def test_the_tail_is_the_two_sample_test_s():
    from scipy.stats import ks_2samp

    rng = np.random.default_rng(2)
    one, other = rng.normal(size=900), rng.normal(0.1, 1, 700)
    p = kolmogorov(ks_statistic(one, other), 900, 700)
    assert p == pytest.approx(ks_2samp(one, other, method="asymp").pvalue, rel=0.15)


def test_the_stability_index_is_small_for_the_same_and_large_for_another():
    rng = np.random.default_rng(3)
    sketch = Sketch.of(rng.normal(size=4000), np.arange(4000))
    assert sketch.stability_index(rng.normal(size=4000)) < 0.02
    assert sketch.stability_index(rng.normal(1, 1, 4000)) > 0.25


def test_values_that_are_all_the_same():
    sketch = Sketch.of(np.zeros(200), np.arange(200))
    assert sketch.distance(np.zeros(50)) == 0
    assert sketch.distance(np.ones(50)) == pytest.approx(1 - sketch.resolution)
    assert np.isfinite(sketch.stability_index(np.ones(50)))
