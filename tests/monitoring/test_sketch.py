from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsheet.monitoring.sketch import (
    MAX_QUANTILES,
    QuantileSketch,
    effective_sample_size,
    ks_p_value,
    ks_statistic,
)

SAMPLES = st.tuples(
    st.integers(0, 2**31), st.integers(20, 3000), st.integers(20, 800), st.sampled_from([2, 9, 0])
)
"""(seed, reference stays, current stays, distinct values a unit; 0: continuous)."""


def draw_normal(seed: int, n: int, distinct: int) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=n)
    return np.round(values * distinct) / distinct if distinct else values


def sketch_independent(values: np.ndarray) -> QuantileSketch:
    """The sketch of values of as many subjects."""
    return QuantileSketch.from_values(values, np.arange(len(values)))


@given(SAMPLES)
@settings(max_examples=150, deadline=None)
def test_the_statistic_is_a_lower_bound_of_the_exact_one(case):
    seed, n, m, distinct = case
    reference = draw_normal(seed, n, distinct)
    current = draw_normal(seed + 1, m, distinct) + seed % 3 / 4
    sketch = sketch_independent(reference)
    exact = ks_statistic(reference, current)
    lower_bound = sketch.ks_statistic(current)
    assert exact - 2 * sketch.resolution - 1e-12 <= lower_bound <= exact + 1e-12


@given(SAMPLES)
@settings(max_examples=50, deadline=None)
def test_the_quantiles_are_within_their_resolution_of_the_values(case):
    seed, n, _, distinct = case
    values = draw_normal(seed, n, distinct)
    sketch = sketch_independent(values)
    assert ks_statistic(values, sketch.values) <= sketch.resolution + 1e-12


def test_no_patient_can_be_identified():
    """Each quantile stands for at least five values, and the extremes are not among them."""
    values = np.arange(5000.0)
    sketch = sketch_independent(values)
    assert len(sketch.quantiles) == MAX_QUANTILES
    assert 0.0 not in sketch.quantiles
    assert 4999.0 not in sketch.quantiles
    assert len(sketch_independent(values[:99]).quantiles) == 19
    assert sketch_independent(values[:4]).quantiles == ()


def test_a_sketch_survives_json():
    sketch = sketch_independent(np.random.default_rng(0).normal(size=100))
    assert QuantileSketch.model_validate_json(sketch.model_dump_json()) == sketch


def test_stays_of_one_patient_count_as_one():
    assert effective_sample_size(np.repeat(np.arange(10), 3)) == pytest.approx(10)
    assert effective_sample_size(np.array([1, 1, 1, 2])) == pytest.approx(16 / 10)
    assert effective_sample_size(np.array([], int)) == 0


def test_the_p_value_agrees_with_scipy():
    from scipy.stats import ks_2samp

    rng = np.random.default_rng(2)
    first, second = rng.normal(size=900), rng.normal(0.1, 1, 700)
    p = ks_p_value(ks_statistic(first, second), 900, 700)
    assert p == pytest.approx(ks_2samp(first, second, method="asymp").pvalue, rel=0.15)


def test_the_stability_index_is_small_without_and_large_with_a_shift():
    rng = np.random.default_rng(3)
    sketch = sketch_independent(rng.normal(size=4000))
    assert sketch.population_stability_index(rng.normal(size=4000)) < 0.02
    assert sketch.population_stability_index(rng.normal(1, 1, 4000)) > 0.25


def test_constant_values_are_compared():
    sketch = sketch_independent(np.zeros(200))
    assert sketch.ks_statistic(np.zeros(50)) == 0
    assert sketch.ks_statistic(np.ones(50)) == pytest.approx(1 - sketch.resolution)
    assert np.isfinite(sketch.population_stability_index(np.ones(50)))
