"""Every input column has exactly one role."""

import pytest

from flowsheet.cohort import catalogue
from flowsheet.cohort.catalogue import ANTI_INFECTIVE_GROUPS
from flowsheet.compose import choices, load
from flowsheet.config import FEATURE_ROLES, FeaturesConfig
from flowsheet.windows.build import list_features
from flowsheet.windows.derived_features import DERIVED
from flowsheet.windows.roles import find_role
from flowsheet.windows.sequences import Feature
from flowsheet.windows.statics import CATEGORICAL, NUMERIC

VOCABULARY = {name: ["a", "b"] for name in CATEGORICAL}


def every_column(name):
    config = FeaturesConfig(**load("features", name))
    return list_features(config, list(catalogue.variables()), list(catalogue.drugs()), VOCABULARY)


@pytest.mark.parametrize("name", choices("features"))
def test_every_column_of_every_choice_has_a_role(name):
    roles = {feature.name: find_role(feature) for feature in every_column(name)}
    assert set(roles.values()) <= set(FEATURE_ROLES)
    for feature in every_column(name):
        if feature.kind in {"missing", "since"} or "_count" in feature.name:
            assert roles[feature.name] == "process", feature
        if feature.kind == "treatment":
            drug = catalogue.drugs()[feature.source]
            expected = "anti_infective" if drug.group in ANTI_INFECTIVE_GROUPS else "drug"
            assert roles[feature.name] == expected


def test_every_kind_of_variable_has_a_role():
    """A new kind or variable is placed, not left among the mixed ones unseen."""
    mixed = {
        name
        for name in catalogue.variables()
        if find_role(Feature(f"{name}_last", "value", name)) == "mixed"
    }
    assert mixed == {"fluid_balance"}


@pytest.mark.parametrize(
    ("name", "kind", "source", "role"),
    [
        ("hr_last", "value", "hr", "physiology"),
        ("hr_count", "value", "hr", "process"),
        ("hr_count_24h", "window", "hr", "process"),
        ("hr_count_so_far", "so_far", "hr", "process"),
        ("hr_max_so_far", "so_far", "hr", "physiology"),
        ("map_below_65_24h", "bound", "map", "physiology"),
        ("peep_last", "value", "peep", "process"),
        ("fio2_mean_8h", "window", "fio2", "process"),
        ("rrt_last", "value", "rrt", "process"),
        ("weight_last", "value", "weight", "patient"),
        ("age", "static", "age", "patient"),
        ("sex=M", "static", "sex", "patient"),
        ("unit=MICU", "static", "unit", "process"),
        ("hours_in_hospital", "static", "hours_in_hospital", "process"),
        ("hours", "time", "hours", "clock"),
        ("shock_index", "derived", "shock_index", "physiology"),
        ("spo2_fio2", "derived", "spo2_fio2", "mixed"),
        ("partial_sofa", "derived", "partial_sofa", "mixed"),
        ("urine_rate", "derived", "urine_rate", "physiology"),
        ("norepinephrine_equivalents", "derived", "norepinephrine_equivalents", "drug"),
    ],
)
def test_roles_of_columns(name, kind, source, role):
    assert find_role(Feature(name, kind, source)) == role


def test_statics_and_derived_numbers_are_placed():
    assert {find_role(Feature(name, "static", name)) for name in NUMERIC} == {"patient"}
    assert {find_role(Feature(name, "derived", name)) for name in DERIVED} == {
        "physiology",
        "mixed",
        "drug",
    }
