import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hn

from flowsheet.errors import CheckFailed
from flowsheet.state.json_files import read_json, write_json
from flowsheet.windows.scaling import SAMPLE_ROWS, Scaler
from flowsheet.windows.sequences import Feature, Sequences

NAN = np.nan


def sequences(*columns, kinds=None):
    """One stay with these input columns."""
    x = np.stack(columns, axis=1).astype(np.float32)
    n = len(x)
    kinds = kinds or ["value"] * len(columns)
    return Sequences(
        x=x,
        y=np.zeros(n, np.int8),
        scored=np.ones(n, bool),
        in_state=np.zeros(n, bool),
        history=np.zeros((n, 0), np.float32),
        step=np.arange(1, n + 1, dtype=np.int32),
        offsets=np.array([0, n]),
        stay_id=np.array([1]),
        subject_id=np.array([1]),
        features=tuple(Feature(f"f{i}", kind, f"f{i}") for i, kind in enumerate(kinds)),
    )


def fit_transform(*columns, kinds=None):
    train = sequences(*columns, kinds=kinds)
    return Scaler.fit(train).transform(train).x


def test_values_are_standardised_and_unknown_ones_become_zero():
    values = np.random.default_rng(1).normal(80, 10, 5000)
    values[::7] = NAN
    x = fit_transform(values)[:, 0]
    is_known = ~np.isnan(values)
    assert abs(x[is_known].mean()) < 0.01
    assert abs(x[is_known].std() - 1) < 0.01
    assert (x[~is_known] == 0).all()


def test_extreme_values_are_clipped_to_the_range_of_the_training_values():
    train = sequences(np.random.default_rng(1).normal(0, 1, 5000))
    test = sequences([-1e6, 0, 1e6])
    x = Scaler.fit(train).transform(test).x[:, 0]
    assert -4 < x[0] < -2
    assert 2 < x[2] < 4


def test_only_skewed_values_without_negative_ones_get_a_log_scale():
    rng = np.random.default_rng(1)
    train = sequences(
        rng.lognormal(2, 1, 5000), rng.normal(100, 5, 5000), rng.lognormal(2, 1, 5000) - 1e3
    )
    assert Scaler.fit(train).log.tolist() == [True, False, False]


def test_columns_of_zeros_and_ones_are_unchanged():
    flags = np.arange(100) % 3 == 0
    x = fit_transform(
        flags,
        flags,
        np.where(flags, NAN, 1.0 * (np.arange(100) % 2)),
        kinds=["missing", "treatment", "static"],
    )
    np.testing.assert_array_equal(x[:, 0], flags)
    np.testing.assert_array_equal(x[:, 1], flags)
    np.testing.assert_array_equal(x[~flags, 2], (np.arange(100) % 2)[~flags])


def test_doses_of_a_rare_drug_are_scaled_to_about_one():
    dose = np.zeros(10_000)
    dose[:5] = [8, 9, 10, 11, 12]
    x = fit_transform(dose, kinds=["treatment"])[:, 0]
    assert (x[5:] == 0).all()
    assert (np.abs(x[:5] - 1) < 0.3).all()


def test_constant_columns_become_zero_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = fit_transform(
            np.full(50, 7.0), np.full(50, NAN), np.zeros(50), np.r_[[1.0], np.full(49, NAN)]
        )
    assert (x == 0).all()
    train = sequences(np.full(50, NAN), np.full(50, 3.0))
    assert (Scaler.fit(train).transform(sequences([5.0, 6.0], [4.0, NAN])).x == 0).all()


def test_transforming_other_rows_does_not_change_the_scaler():
    values = np.random.default_rng(1).normal(80, 10, 1000)
    train = sequences(values)
    used = Scaler.fit(train)
    used.transform(sequences(values * 100))
    np.testing.assert_array_equal(used.transform(train).x, Scaler.fit(train).transform(train).x)


def test_the_scaled_values_of_a_row_do_not_depend_on_other_rows():
    train = sequences(*np.random.default_rng(1).lognormal(1, 1, (5, 40_000)))
    scaler = Scaler.fit(train)
    last_row = replace(train, x=train.x[39_999:])
    np.testing.assert_array_equal(
        scaler.transform(last_row).x[0], scaler.transform(train).x[39_999]
    )


def test_the_sample_of_a_large_cohort_is_reproducible():
    values = np.random.default_rng(1).normal(0, 1, SAMPLE_ROWS * 2)
    one = Scaler.fit(sequences(values))
    other = Scaler.fit(sequences(values))
    assert (one.centre, one.spread) == (other.centre, other.spread)
    assert abs(one.spread[0] - 1) < 0.02


columns = hn.arrays(
    np.float32,
    st.tuples(st.integers(1, 30), st.just(3)),
    elements=st.one_of(st.just(NAN), st.sampled_from([0, 1]), st.floats(-1e4, 1e4, width=32)),
)
SUBNORMAL = np.array([[0.0] * 3, [1e-45] * 3], np.float32)


@settings(deadline=None)
@given(columns, columns)
@example(SUBNORMAL, SUBNORMAL)
def test_scaled_values_are_finite_and_equal_after_saving_and_loading(tmp_path_factory, train, test):
    path = tmp_path_factory.mktemp("scaler") / "scaler.json"
    kinds = ["value", "treatment", "missing"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scaler = Scaler.fit(sequences(*train.T, kinds=kinds))
        x = scaler.transform(sequences(*test.T, kinds=kinds)).x
    assert x.dtype == np.float32
    assert np.isfinite(x).all()
    scaler.save(path)
    assert Scaler.load(path).transform(sequences(*test.T, kinds=kinds)).x.tobytes() == x.tobytes()


def test_other_columns_are_refused():
    scaler = Scaler.fit(sequences([1.0, 2.0], [3.0, 4.0]))
    with pytest.raises(CheckFailed, match="f1"):
        scaler.transform(sequences([1.0, 2.0]))


def test_another_layout_is_refused(tmp_path):
    path = tmp_path / "scaler.json"
    Scaler.fit(sequences([1.0, 2.0])).save(path)
    write_json(path, {**read_json(path), "version": 99})
    with pytest.raises(CheckFailed, match="layout 99"):
        Scaler.load(path)


def test_never_measured_equals_the_longest_time_since_a_measurement():
    hours = np.random.default_rng(1).uniform(0, 48, 5000)
    hours[::7] = NAN
    x = fit_transform(hours, kinds=["since"])[:, 0]
    np.testing.assert_allclose(x[np.isnan(hours)], x[~np.isnan(hours)].max(), rtol=1e-5)
