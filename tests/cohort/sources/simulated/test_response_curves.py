from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowsheet.cohort.sources.simulated.response_curves import (
    Exponential,
    Hump,
    NoEffect,
    Plateau,
    Power,
)

LAGS = np.arange(200, dtype=float)


@given(
    st.one_of(
        st.builds(Exponential, tau=st.floats(0.1, 50)),
        st.builds(Hump, peak=st.integers(1, 50).map(float), sharpness=st.floats(0.2, 10)),
        st.builds(Plateau, first=st.integers(0, 20), last=st.integers(20, 60)),
        st.builds(Power, scale=st.floats(0.1, 50), exponent=st.floats(0.1, 5)),
    )
)
def test_a_curve_peaks_at_one_and_is_never_negative(curve):
    values = curve.at(LAGS)
    assert values.min() >= 0
    assert values.max() == pytest.approx(1)


def test_an_exponential_decays_with_its_time_constant():
    assert Exponential(tau=4).at(LAGS)[4] == pytest.approx(np.exp(-1))


def test_a_hump_begins_at_zero_and_has_its_maximum_at_the_peak():
    hump = Hump(peak=6).at(LAGS)
    assert hump[0] == 0
    assert hump.argmax() == 6


def test_a_plateau_without_shoulders_is_one_from_first_to_last():
    assert np.flatnonzero(Plateau(first=3, last=7).at(LAGS)).tolist() == [3, 4, 5, 6, 7]


def test_the_shoulders_of_a_plateau_are_symmetric():
    plateau = Plateau(first=18, last=44, shoulder=2).at(LAGS)
    assert plateau[31] > 0.99
    assert plateau[17] == pytest.approx(1 - plateau[18], abs=1e-5)
    assert plateau[45] == pytest.approx(1 - plateau[44], abs=1e-5)


def test_a_power_law_falls_by_its_exponent():
    assert Power(scale=3, exponent=1).at(LAGS)[9] == pytest.approx(0.25)


def test_no_effect_is_zero_at_every_lag():
    assert not NoEffect().at(LAGS).any()
