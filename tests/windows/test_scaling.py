import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
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


def scaled(*columns, kinds=None):
    made = sequences(*columns, kinds=kinds)
    return Scaler.fit(made).transform(made).x


def test_a_measurement_is_centred_and_divided_and_nothing_known_is_zero():
    values = np.random.default_rng(1).normal(80, 10, 5000)
    values[::7] = NAN
    x = scaled(values)[:, 0]
    told = ~np.isnan(values)
    assert abs(x[told].mean()) < 0.01
    assert abs(x[told].std() - 1) < 0.01
    assert (x[~told] == 0).all()


def test_extreme_values_are_cut_to_what_training_saw():
    train = sequences(np.random.default_rng(1).normal(0, 1, 5000))
    test = sequences([-1e6, 0, 1e6])
    x = Scaler.fit(train).transform(test).x[:, 0]
    assert -4 < x[0] < -2
    assert 2 < x[2] < 4


def test_skewed_values_are_logged_and_others_are_not():
    rng = np.random.default_rng(1)
    made = sequences(
        rng.lognormal(2, 1, 5000), rng.normal(100, 5, 5000), rng.lognormal(2, 1, 5000) - 1e3
    )
    assert Scaler.fit(made).log.tolist() == [True, False, False]


def test_flags_stay_as_they_are():
    flags = np.arange(100) % 3 == 0
    x = scaled(
        flags,
        flags,
        np.where(flags, NAN, 1.0 * (np.arange(100) % 2)),
        kinds=["missing", "treatment", "static"],
    )
    np.testing.assert_array_equal(x[:, 0], flags)
    np.testing.assert_array_equal(x[:, 1], flags)
    np.testing.assert_array_equal(x[~flags, 2], (np.arange(100) % 2)[~flags])


def test_a_rare_dose_is_neither_cut_away_nor_blown_up():
    dose = np.zeros(10_000)
    dose[:5] = [8, 9, 10, 11, 12]
    x = scaled(dose, kinds=["treatment"])[:, 0]
    assert (x[5:] == 0).all()
    assert (np.abs(x[:5] - 1) < 0.3).all()


def test_no_variation_becomes_zero_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = scaled(np.full(50, 7.0), np.full(50, NAN), np.zeros(50), np.r_[[1.0], np.full(49, NAN)])
    assert (x == 0).all()
    train = sequences(np.full(50, NAN), np.full(50, 3.0))
    assert (Scaler.fit(train).transform(sequences([5.0, 6.0], [4.0, NAN])).x == 0).all()


def test_nothing_is_learnt_from_other_rows_than_the_training_rows():
    values = np.random.default_rng(1).normal(80, 10, 1000)
    train = sequences(values)
    alone = Scaler.fit(train)
    alone.transform(sequences(values * 100))
    np.testing.assert_array_equal(alone.transform(train).x, Scaler.fit(train).transform(train).x)


def test_a_row_is_scaled_the_same_alone_and_in_company():
    made = sequences(*np.random.default_rng(1).lognormal(1, 1, (5, 40_000)))
    scaler = Scaler.fit(made)
    row = replace(made, x=made.x[39_999:])
    np.testing.assert_array_equal(scaler.transform(row).x[0], scaler.transform(made).x[39_999])


def test_a_large_cohort_is_sampled_the_same_way_each_time():
    values = np.random.default_rng(1).normal(0, 1, SAMPLE_ROWS * 2)
    one, two = Scaler.fit(sequences(values)), Scaler.fit(sequences(values))
    assert (one.centre, one.spread) == (two.centre, two.spread)
    assert abs(one.spread[0] - 1) < 0.02


columns = hn.arrays(
    np.float32,
    st.tuples(st.integers(1, 30), st.just(3)),
    elements=st.one_of(st.just(NAN), st.sampled_from([0, 1]), st.floats(-1e4, 1e4, width=32)),
)


@settings(deadline=None)
@given(columns, columns)
def test_output_is_finite_and_survives_a_save(tmp_path_factory, train, test):
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


def test_never_measured_is_the_longest_wait():
    waits = np.random.default_rng(1).uniform(0, 48, 5000)
    waits[::7] = NAN
    x = scaled(waits, kinds=["since"])[:, 0]
    np.testing.assert_allclose(x[np.isnan(waits)], x[~np.isnan(waits)].max(), rtol=1e-5)
