"""Units that differ in signs alone are one unit, wherever units are compared."""

from __future__ import annotations

from collections import Counter

import polars as pl
import pytest

from flowsheet.cohort import catalogue
from flowsheet.cohort.engine.unit_names import count_other_units, same_spelling
from flowsheet.cohort.sources.meds.codes import dose_factor
from flowsheet.cohort.units import fold_unit, fold_units

MICRO, MU = "\N{MICRO SIGN}", "\N{GREEK SMALL LETTER MU}"
SPELLINGS = {
    "mcg/kg/min": [
        f"{MICRO}g/kg/min",
        f"{MU}g/kg/min",
        "ug/kg/min",
        "MCG/KG/MIN",
        "mcg / kg / min",
    ],
    "ml/hour": ["mL/hour", "ML/Hour", "m\N{SCRIPT SMALL L}/hour", "ml/\N{NO-BREAK SPACE}hour"],
    "10^9/l": ["10\N{SUPERSCRIPT NINE}/L", "x10^9/L", "\N{MULTIPLICATION SIGN}10^9/l", "10*9/L"],
    "l/min/m^2": ["L/min/m\N{SUPERSCRIPT TWO}", "L/min/m^2"],
    "\N{DEGREE SIGN}c": [
        "\N{DEGREE CELSIUS}",
        "\N{MASCULINE ORDINAL INDICATOR}C",
        "\N{RING ABOVE}C",
        "\N{DEGREE SIGN} C",
    ],
    "mg/dl": ["mg/dL", "MG/DL", "mg\N{DIVISION SLASH}dL", "mg./dl"],
}


@pytest.mark.parametrize("folded", SPELLINGS)
def test_spellings_of_one_unit_are_folded(folded: str):
    assert {fold_unit(unit) for unit in [folded, *SPELLINGS[folded]]} == {folded}
    column = pl.DataFrame({"unit": [*SPELLINGS[folded], None]})
    assert column.select(fold_units(pl.col("unit")))["unit"].to_list() == [
        *[folded] * len(SPELLINGS[folded]),
        None,
    ]


def test_units_of_doses_are_written_as_they_are_folded():
    units = catalogue.mimic3_units()["uom"]
    assert [fold_unit(unit) for unit in units] == units.to_list()


@pytest.mark.parametrize("sign", [MICRO, MU, "u", "mc"])
def test_a_microgram_has_one_dose(sign: str):
    assert dose_factor(f"{sign}g/kg/min", "mcg/kg", running=True) == 60
    assert dose_factor(f"{sign.upper()}G", "mg", running=False) == 0.001


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        (f"K/{MICRO}L", "10^9/L"),
        (f"10*3/{MU}L", "10^9/L"),
        ("K/mcL", "10^9/L"),
        ("mm[Hg]", "mmHg"),
        ("min\N{SUPERSCRIPT MINUS}\N{SUPERSCRIPT ONE}", "/min"),
        ("\N{DEGREE FAHRENHEIT}", "degF"),
        (f"{MU}g/mL", "ug/mL"),
    ],
)
def test_the_same_unit_is_no_other_one(unit: str, expected: str):
    counts: Counter[str] = Counter()
    rows = pl.DataFrame({"name": ["x"], "unit": [unit], "expected": [expected], "len": [3]})
    count_other_units(rows, "codes", counts)
    assert not counts


def test_a_thousandth_is_not_a_millionth():
    units = pl.DataFrame({"unit": ["mg/L", f"{MICRO}g/L", "mg/dL", "ng/L"]})
    assert units.select(same_spelling(pl.col("unit")))["unit"].n_unique() == 4
