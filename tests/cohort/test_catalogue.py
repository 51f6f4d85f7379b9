"""The catalogue is complete, consistent, and helpful about names."""

from __future__ import annotations

import pytest

from flowsheet.cohort import catalogue
from flowsheet.cohort.sources.physionet2019 import MEASUREMENTS
from flowsheet.errors import UsageError


def test_every_variable_has_a_unit_a_kind_a_range_and_its_source():
    for name, variable in catalogue.variables().items():
        assert variable.name == name
        assert all([variable.label, variable.unit, variable.kind, variable.source])
        assert variable.low < variable.high


def test_every_drug_has_a_group_and_a_unit():
    assert all(drug.group and drug.unit and drug.name == name for name, drug in catalogue.drugs().items())


def test_the_challenge_is_covered():
    assert len(MEASUREMENTS) == 34
    assert set(MEASUREMENTS.values()) <= set(catalogue.variables())


def test_names_are_unique():
    assert catalogue.ranges()["variable"].is_unique().all()
    assert catalogue.drug_units()["drug"].is_unique().all()


@pytest.mark.parametrize(
    ("find", "typed", "meant"), [(catalogue.variable, "lacr", "lact"), (catalogue.drug, "vancomicin", "vancomycin")]
)
def test_a_mistyped_name_is_answered_with_the_nearest(find, typed: str, meant: str):
    assert find(meant).name == meant
    with pytest.raises(UsageError, match=f'did you mean "{meant}"'):
        find(typed)
