from __future__ import annotations

import numpy as np
import pytest

from flowsheet.cohort.catalogue import variables
from flowsheet.monitoring.sketch import Sketch
from flowsheet.monitoring.units import conversions, mistake

TYPICAL = {
    "temp": (37, 0.7), "weight": (80, 18), "weight_kg": (80, 18), "height": (170, 10), "height_cm": (170, 10),
    "fio2": (45, 12), "o2sat": (97, 2), "hct": (31, 5), "hgb": (10.5, 1.8), "alb": (3, 0.6), "glu": (135, 35),
    "bun": (24, 12), "crea": (1.3, 0.6), "ca": (8.2, 0.7), "mg": (2, 0.3), "phos": (3.5, 1), "lact": (2.2, 1),
    "wbc": (11, 4), "plt": (200, 80), "pco2": (41, 8), "po2": (110, 40), "sbp": (120, 18), "map": (80, 12),
}  # fmt: skip
"""Means and standard deviations over adult stays, roughly, in the catalogue's units."""
CASES = [(of, each) for of in TYPICAL for each in conversions()[of]]


def typical(of: str, seed: int, n: int = 800) -> np.ndarray:
    mean, sd = TYPICAL[of]
    return np.abs(np.random.default_rng(seed).normal(mean, sd, n))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]} in {case[1].unit}")
def test_every_mistake_is_named(case):
    of, conversion = case
    then = Sketch.of(typical(of, 1), np.arange(800))
    wrong = (typical(of, 2) - conversion.offset) / conversion.factor
    found = mistake(of, then, wrong)
    assert found
    assert found.unit == conversion.unit
    assert found.share > 0.8


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]} in {case[1].unit}")
def test_a_fifth_of_the_stays_in_another_unit_is_noticed(case):
    of, conversion = case
    then, values = Sketch.of(typical(of, 1), np.arange(800)), typical(of, 2)
    values[:160] = (values[:160] - conversion.offset) / conversion.factor
    found = mistake(of, then, values)
    far = (
        abs(np.median(values[:160]) - TYPICAL[of][0]) > 4 * TYPICAL[of][1]
    )  # else nobody could tell
    assert found is not None or not far
    assert found is None or (found.unit == conversion.unit and 0.05 < found.share < 0.25)


@pytest.mark.parametrize("of", TYPICAL)
def test_sicker_patients_are_no_mistake(of):
    then = Sketch.of(typical(of, 1), np.arange(800))
    assert mistake(of, then, typical(of, 2) + TYPICAL[of][1] / 2) is None
    assert mistake(of, then, typical(of, 3)) is None


def test_the_table_speaks_of_what_there_is():
    known = {*variables(), "weight_kg", "height_cm"}
    assert set(conversions()) <= known
    assert all(each.factor > 0 for several in conversions().values() for each in several)
    assert len(
        {(of, each.unit) for of, several in conversions().items() for each in several}
    ) == sum(len(several) for several in conversions().values())


def test_a_kind_without_other_units():
    then = Sketch.of(np.random.default_rng(1).normal(85, 12, 500), np.arange(500))
    assert mistake("hr", then, np.full(100, 200.0)) is None
