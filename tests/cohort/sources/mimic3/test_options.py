"""The source's options follow the convention of Sepsis-3 where it needs them."""

from __future__ import annotations

import pytest

from flowsheet.cohort.sepsis3 import Sepsis3Options
from flowsheet.cohort.sources.mimic3 import Mimic3Options


@pytest.mark.parametrize(
    ("convention", "rule"),
    [
        ("flowsheet", "missing"),
        ("mimic_code", "normal"),
        ("ricu", "normal"),
        ("seymour", "missing"),
    ],
)
def test_intubated_patients_are_scored_as_the_convention_does(convention: str, rule: str):
    for sepsis3 in ({"convention": convention}, Sepsis3Options(convention=convention)):
        options = Mimic3Options(sepsis3=sepsis3)
        assert options.intubated_verbal == rule
        assert Mimic3Options(**options.model_dump()) == options
    given = Mimic3Options(sepsis3={"convention": convention}, intubated_verbal="as_charted")
    assert given.intubated_verbal == "as_charted"
    unset = {"sepsis3": {"convention": convention}, "intubated_verbal": None}
    assert Mimic3Options.model_validate(unset).intubated_verbal == rule
