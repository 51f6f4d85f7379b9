import numpy as np
import pytest

from flowsheet.cohort import catalogue
from flowsheet.cohort.schema import OUTCOME_COLUMNS
from flowsheet.config import FeaturesConfig, TaskConfig
from flowsheet.errors import UsageError
from flowsheet.testing.tables import make_tables
from flowsheet.windows.build import build_sequences, collect_vocabulary, list_features

NAN = np.nan


def build(tables, task=None, available=("hr", "lact"), vocabulary=None, **features):
    config = FeaturesConfig(name="f", **{"statics": (), "time": False, **features})
    task = TaskConfig(name="t", **{"step_hours": 4, "horizon": 1, **(task or {})})
    vocabulary = vocabulary or collect_vocabulary(tables)
    return build_sequences(tables, task, config, available, (), vocabulary)


def column(sequences, name):
    return sequences.x[:, [feature.name for feature in sequences.features].index(name)].tolist()


def build_with_heart_rates(*heart_rates, hours=16, stay=None, **options):
    """A stay with heart rates, each (time, value) or (time, value, known_at)."""
    names = ("time", "value", "known_at")
    events = [
        {"stay_id": 1, "variable": "hr", **dict(zip(names, heart_rate, strict=False))}
        for heart_rate in heart_rates
    ]
    stays = [{"stay_id": 1, "discharged_at": hours, **(stay or {})}]
    return build(make_tables(stays, events), **options)


def assert_equal(actual, expected):
    np.testing.assert_array_equal(np.array(actual, np.float32), np.array(expected, np.float32))


def test_the_latest_value_is_carried_forward_until_its_limit():
    sequences = build_with_heart_rates((1, 70.0), (2, 80.0), carry_forward_hours=10)
    assert_equal(column(sequences, "hr_last"), [80, 80, 80, NAN])  # 2, 6 and 10 hours old, then 14
    assert_equal(column(sequences, "hr_missing"), [0, 1, 1, 1])
    assert_equal(column(sequences, "hr_since"), [2, 6, 10, 14])
    assert_equal(column(sequences, "lact_last"), [NAN] * 4)
    assert_equal(column(sequences, "lact_since"), [NAN] * 4)


def test_without_carrying_forward_a_value_is_valid_in_its_own_step():
    sequences = build_with_heart_rates((0.5, 70.0), (8, 90.0), carry_forward_hours=0)
    assert_equal(column(sequences, "hr_last"), [70, 90, NAN, NAN])


def test_the_carry_forward_limit_may_differ_by_variable():
    sequences = build_with_heart_rates(
        (1, 70.0), carry_forward_hours=48, carry_forward_by_variable={"hr": 5}
    )
    assert_equal(column(sequences, "hr_last"), [70, NAN, NAN, NAN])


def test_a_value_arrives_when_it_is_known():
    sequences = build_with_heart_rates((1, 70.0, 9))
    assert_equal(column(sequences, "hr_last"), [NAN, NAN, 70, 70])
    assert_equal(
        column(sequences, "hr_since"), [NAN, NAN, 11, 15]
    )  # the age is relative to its time
    assert_equal(column(sequences, "hr_missing"), [1, 1, 0, 1])


def test_a_late_arrival_does_not_replace_a_newer_value():
    sequences = build_with_heart_rates(
        (1, 70.0, 9), (2, 80.0), aggregations=("last", "mean", "count")
    )
    assert_equal(column(sequences, "hr_last"), [80, 80, 80, 80])
    assert_equal(column(sequences, "hr_mean"), [80, NAN, 70, NAN])
    assert_equal(column(sequences, "hr_count"), [1, 0, 1, 0])


def test_a_late_arrival_beyond_the_carry_forward_limit_is_not_used():
    sequences = build_with_heart_rates((1, 70.0, 14), carry_forward_hours=10)
    assert_equal(column(sequences, "hr_last"), [NAN] * 4)
    assert_equal(column(sequences, "hr_missing"), [1, 1, 1, 0])


def test_of_two_values_of_one_time_the_one_known_later_is_used():
    sequences = build_with_heart_rates((1, 70.0, 6), (1, 90.0, 2))
    assert_equal(column(sequences, "hr_last"), [90, 70, 70, 70])


def test_a_cell_includes_its_end():
    sequences = build_with_heart_rates((4, 70.0), (4.25, 80.0), aggregations=("count",))
    assert_equal(column(sequences, "hr_count"), [1, 1, 0, 0])


def test_values_before_the_first_row_arrive_in_it():
    sequences = build_with_heart_rates(
        (-3, 70.0),
        (5, 80.0),
        stay={"observed_from": 8},
        aggregations=("last", "min", "max", "mean"),
    )
    assert sequences.step.tolist() == [3, 4]
    assert_equal(column(sequences, "hr_last"), [80, 80])
    assert_equal(column(sequences, "hr_min"), [70, NAN])
    assert_equal(column(sequences, "hr_max"), [80, NAN])
    assert_equal(column(sequences, "hr_mean"), [75, NAN])


def test_the_cells_of_consecutive_cut_offs_have_no_gap():
    same_day = {"step_hours": 24, "horizon": 0, "cutoff_hours": 8}
    sequences = build_with_heart_rates(
        (7, 1.0),
        (8.25, 2.0),
        (24, 3.0),
        (32, 4.0),
        (33, 5.0),
        hours=60,
        task=same_day,
        aggregations=("last", "count"),
    )
    assert_equal(column(sequences, "hr_count"), [1, 3, 1])
    assert_equal(column(sequences, "hr_last"), [1, 4, 5])


def test_values_known_after_the_last_row_are_not_used():
    sequences = build_with_heart_rates((15, 70.0, 17), (16.25, 80.0))
    assert_equal(column(sequences, "hr_last"), [NAN] * 4)


def test_missing_values_and_unknown_variables_or_stays_are_ignored():
    tables = make_tables(
        [{"stay_id": 1, "discharged_at": 4}],
        [
            {"stay_id": 1, "time": 1, "variable": "hr", "value": None},
            {"stay_id": 1, "time": 2, "variable": "hr", "value": NAN},
            {"stay_id": 1, "time": 3, "variable": "glu", "value": 100.0},
            {"stay_id": 2, "time": 3, "variable": "hr", "value": 60.0},
        ],
    )
    assert_equal(column(build(tables), "hr_missing"), [1])


def test_the_columns_do_not_depend_on_the_data():
    config = FeaturesConfig(name="f", aggregations=("last", "max"), statics=("age", "sex"))
    columns = (("hr", "lact"), ("insulin",), {"sex": ["F", "M"]})
    names = [feature.name for feature in list_features(config, *columns)]
    assert names == [
        *("hr_last", "lact_last", "hr_max", "lact_max"),
        *("hr_missing", "lact_missing", "hr_since", "lact_since"),
        *("insulin_on", "insulin_dose", "insulin_since"),
        *("age", "sex=F", "sex=M", "hours"),
    ]
    tables = make_tables([{"stay_id": 1, "discharged_at": 4}])
    sequences = build_sequences(tables, TaskConfig(name="t"), config, *columns)
    assert [feature.name for feature in sequences.features] == names


def test_statics_and_time():
    stays = [
        {
            "stay_id": 1,
            "discharged_at": 8,
            "age": 60.0,
            "sex": "F",
            "unit": "MICU",
            "hospital_admitted_at": -30,
        },
        {
            "stay_id": 2,
            "discharged_at": 4,
            "weight_kg": 80.0,
            "unit": "elsewhere",
            "hospital_admitted_at": 2,
        },
    ]
    statics = ("age", "weight_kg", "hours_in_hospital", "sex", "unit")
    vocabulary = {"sex": ["F", "M"], "unit": ["CCU", "MICU"]}
    sequences = build(
        make_tables(stays), vocabulary=vocabulary, available=(), statics=statics, time=True
    )
    assert_equal(sequences.x[0], [60, NAN, 30, 1, 0, 0, 1, 4])
    assert_equal(sequences.x[1], [60, NAN, 30, 1, 0, 0, 1, 8])
    # an unknown category is all zeros
    assert_equal(sequences.x[2], [NAN, 80, -2, 0, 0, 0, 0, 4])


def test_height_and_weight_are_seen_as_soon_as_they_are_known():
    stays = [
        {"stay_id": 1, "discharged_at": 16, "weight_kg": 70.0},
        {"stay_id": 2, "discharged_at": 8},
    ]
    events = [
        {"stay_id": 1, "time": 2, "variable": "height", "value": 170.0, "known_at": 5},
        {"stay_id": 1, "time": 3, "variable": "weight", "value": 80.0},
        {"stay_id": 1, "time": 13, "variable": "weight", "value": 75.0},
        {"stay_id": 1, "time": 1, "variable": "weight", "value": 90.0, "known_at": 9},
    ]
    tables = make_tables(stays, events)
    sequences = build(tables, available=(), statics=("height_cm", "weight_kg"))
    assert_equal(column(sequences, "height_cm"), [NAN, 170, 170, 170, NAN, NAN])
    assert_equal(column(sequences, "weight_kg"), [80, 80, 80, 75, NAN, NAN])


def test_the_vocabulary_is_sorted_and_contains_no_null():
    stays = [
        {"stay_id": i, "discharged_at": 8, "unit": unit}
        for i, unit in enumerate(["b", None, "a", "b"])
    ]
    assert collect_vocabulary(make_tables(stays))["unit"] == ["a", "b"]


@pytest.mark.parametrize(
    "features",
    [
        {"variables": ("hart",)},
        {"carry_forward_by_variable": {"hart": 3.0}},
        {"treatments": ("insulin",)},
        {"statics": ("agee",)},
    ],
)
def test_unknown_names_are_refused_with_a_suggestion(features):
    with pytest.raises(UsageError, match=r"hart|insulin|agee"):
        build(make_tables([{"stay_id": 1, "discharged_at": 8}]), **features)


@pytest.mark.parametrize(
    "features",
    [{"variables": ("hr", "hr")}, {"statics": ("age", "age")}, {"aggregations": ("last", "last")}],
)
def test_a_name_listed_twice_is_refused(features):
    with pytest.raises(UsageError, match="twice"):
        build(make_tables([{"stay_id": 1, "discharged_at": 8}]), **features)


def names_of_features(**features):
    config = FeaturesConfig(name="f", statics=(), time=False, **features)
    drugs = ("norepinephrine", "vancomycin", "acyclovir", "fluconazole", "isoniazid")
    known = list_features(config, ("hr", "lact", "gcs"), drugs, {})
    return {feature.source for feature in known}


def test_groups_of_drugs_can_be_excluded():
    assert names_of_features(
        variables=(), excluded_treatment_groups=catalogue.ANTI_INFECTIVE_GROUPS
    ) == {"norepinephrine"}


def test_variables_can_be_selected_by_kind():
    assert names_of_features(treatments="none", variable_kinds=("vital",)) == {"hr"}
    assert names_of_features(treatments="none", variable_kinds=("lab", "score")) == {"lact", "gcs"}


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"excluded_treatment_groups": ("antibiotics",)}, "treatment group 'antibiotics'"),
        ({"variable_kinds": ("vitals",)}, "kind of variables 'vitals'"),
        (
            {"treatments": ("vancomycin",), "excluded_treatment_groups": ("antibiotic",)},
            "'vancomycin' and exclude its group 'antibiotic'",
        ),
        ({"variables": ("lact",), "variable_kinds": ("vital",)}, "'lact'"),
    ],
)
def test_contradictory_or_unknown_selections_are_refused(features, message):
    with pytest.raises(UsageError, match=message) as error:
        names_of_features(**features)
    assert error.value.todo


@pytest.mark.parametrize("column", [*OUTCOME_COLUMNS, "comfort_measures_at"])
def test_what_tells_the_future_cannot_be_a_static(column):
    with pytest.raises(UsageError, match=f"'{column}', which does not exist"):
        list_features(FeaturesConfig(name="f", statics=(column,)), (), (), {})
