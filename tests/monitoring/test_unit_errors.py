from __future__ import annotations

import numpy as np
import pytest

from flowsheet.cohort.catalogue import variables
from flowsheet.monitoring.sketch import QuantileSketch
from flowsheet.monitoring.unit_errors import (
    UnitConversion,
    find_unit_error,
    load_unit_conversions,
)

TYPICAL = {
    "temp": (37, 0.7), "weight": (80, 18), "weight_kg": (80, 18), "height": (170, 10),
    "height_cm": (170, 10), "fio2": (45, 12), "o2sat": (97, 2), "hct": (31, 5), "hgb": (10.5, 1.8),
    "alb": (3, 0.6), "glu": (135, 35), "bun": (24, 12), "crea": (1.3, 0.6), "ca": (8.2, 0.7),
    "mg": (2, 0.3), "phos": (3.5, 1), "lact": (2.2, 1), "wbc": (11, 4), "plt": (200, 80),
    "pco2": (41, 8), "po2": (110, 40), "sbp": (120, 18), "map": (80, 12),
}  # fmt: skip
"""Approximate means and standard deviations over adult stays, in the catalogue's units."""
CASES = [(variable, unit) for variable in TYPICAL for unit in load_unit_conversions()[variable]]


def draw_typical(variable: str, seed: int, n: int = 800) -> np.ndarray:
    mean, sd = TYPICAL[variable]
    return np.abs(np.random.default_rng(seed).normal(mean, sd, n))


def reference_sketch(variable: str) -> QuantileSketch:
    return QuantileSketch.from_values(draw_typical(variable, 1), np.arange(800))


def in_wrong_unit(values: np.ndarray, unit: UnitConversion) -> np.ndarray:
    return (values - unit.conversion.offset) / unit.conversion.factor


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]} in {case[1].unit}")
def test_every_wrong_unit_is_identified(case):
    variable, unit = case
    values = in_wrong_unit(draw_typical(variable, 2), unit)
    error = find_unit_error(variable, reference_sketch(variable), values)
    assert error
    assert error.unit == unit.unit
    assert error.share > 0.8


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]} in {case[1].unit}")
def test_a_fifth_of_the_stays_in_another_unit_is_identified(case):
    variable, unit = case
    mean, sd = TYPICAL[variable]
    values = draw_typical(variable, 2)
    values[:160] = in_wrong_unit(values[:160], unit)
    error = find_unit_error(variable, reference_sketch(variable), values)
    is_distinguishable = abs(np.median(values[:160]) - mean) > 4 * sd
    assert error is not None or not is_distinguishable
    assert error is None or (error.unit == unit.unit and 0.05 < error.share < 0.25)


@pytest.mark.parametrize("variable", TYPICAL)
def test_sicker_patients_are_not_a_unit_error(variable):
    reference = reference_sketch(variable)
    sicker = draw_typical(variable, 2) + TYPICAL[variable][1] / 2
    assert find_unit_error(variable, reference, sicker) is None
    assert find_unit_error(variable, reference, draw_typical(variable, 3)) is None


def test_the_table_has_known_variables_and_distinct_units():
    assert set(load_unit_conversions()) <= {*variables(), "weight_kg", "height_cm"}
    for units in load_unit_conversions().values():
        assert all(unit.conversion.factor > 0 for unit in units)
        assert len({unit.unit for unit in units}) == len(units)


def test_a_variable_without_other_units_has_no_unit_error():
    heart_rates = np.random.default_rng(1).normal(85, 12, 500)
    reference = QuantileSketch.from_values(heart_rates, np.arange(500))
    assert find_unit_error("hr", reference, np.full(100, 200.0)) is None
