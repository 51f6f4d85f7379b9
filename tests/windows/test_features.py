import numpy as np
import pytest

from flowsheet.config import FeaturesConfig, TaskConfig
from flowsheet.errors import UsageError
from flowsheet.testing.tables import make_tables
from flowsheet.windows.build import build_sequences, collect_vocabulary, list_features

NAN = np.nan


def built(tables, task=None, held=("hr", "lact"), vocabulary=None, **features):
    config = FeaturesConfig(name="f", **{"statics": (), "time": False, **features})
    task = TaskConfig(name="t", **{"step_hours": 4, "horizon": 1, **(task or {})})
    return build_sequences(tables, task, config, held, (), vocabulary or collect_vocabulary(tables))


def column(sequences, name):
    return sequences.x[:, [feature.name for feature in sequences.features].index(name)].tolist()


def hr(*facts, hours=16, stay=None, **options):
    """A stay with heart rates (time, value[, known_at])."""
    events = [
        {
            "stay_id": 1,
            "variable": "hr",
            "time": f[0],
            "value": f[1],
            **({"known_at": f[2]} if len(f) > 2 else {}),
        }
        for f in facts
    ]
    return built(
        make_tables([{"stay_id": 1, "discharged_at": hours, **(stay or {})}], events), **options
    )


def same(actual, expected):
    np.testing.assert_array_equal(np.array(actual, np.float32), np.array(expected, np.float32))


def test_the_latest_value_is_carried_for_its_time():
    made = hr((1, 70.0), (2, 80.0), carry_forward_hours=10)
    same(column(made, "hr_last"), [80, 80, 80, NAN])  # 2, 6 and 10 hours old, then 14
    same(column(made, "hr_missing"), [0, 1, 1, 1])
    same(column(made, "hr_since"), [2, 6, 10, 14])
    same(column(made, "lact_last"), [NAN] * 4)
    same(column(made, "lact_since"), [NAN] * 4)


def test_no_carrying_keeps_a_value_to_its_own_step():
    made = hr((0.5, 70.0), (8, 90.0), carry_forward_hours=0)
    same(column(made, "hr_last"), [70, 90, NAN, NAN])


def test_carrying_may_differ_by_variable():
    made = hr((1, 70.0), carry_forward_hours=48, carry_forward_by_variable={"hr": 5})
    same(column(made, "hr_last"), [70, NAN, NAN, NAN])


def test_a_fact_comes_when_it_is_known():
    made = hr((1, 70.0, 9))
    same(column(made, "hr_last"), [NAN, NAN, 70, 70])
    same(column(made, "hr_since"), [NAN, NAN, 11, 15])  # its age counts from when it was true
    same(column(made, "hr_missing"), [1, 1, 0, 1])


def test_a_stale_arrival_does_not_replace_a_newer_value():
    made = hr((1, 70.0, 9), (2, 80.0), aggregations=("last", "mean", "count"))
    same(column(made, "hr_last"), [80, 80, 80, 80])
    same(column(made, "hr_mean"), [80, NAN, 70, NAN])
    same(column(made, "hr_count"), [1, 0, 1, 0])


def test_a_stale_arrival_beyond_its_time_is_too_old():
    made = hr((1, 70.0, 14), carry_forward_hours=10)
    same(column(made, "hr_last"), [NAN] * 4)
    same(column(made, "hr_missing"), [1, 1, 1, 0])


def test_of_two_values_of_one_time_the_one_known_later_holds():
    made = hr((1, 70.0, 6), (1, 90.0, 2))
    same(column(made, "hr_last"), [90, 70, 70, 70])


def test_a_fact_at_the_end_of_a_cell_belongs_to_it():
    made = hr((4, 70.0), (4.25, 80.0), aggregations=("count",))
    same(column(made, "hr_count"), [1, 1, 0, 0])


def test_facts_before_the_first_row_come_in_it():
    made = hr(
        (-3, 70.0),
        (5, 80.0),
        stay={"observed_from": 8},
        aggregations=("last", "min", "max", "mean"),
    )
    assert made.step.tolist() == [3, 4]
    same(column(made, "hr_last"), [80, 80])
    same(column(made, "hr_min"), [70, NAN])
    same(column(made, "hr_max"), [80, NAN])
    same(column(made, "hr_mean"), [75, NAN])


def test_cells_join_without_a_gap_between_cut_offs():
    same_day = {"step_hours": 24, "horizon": 0, "cutoff_hours": 8}
    made = hr(
        (7, 1.0),
        (8.25, 2.0),
        (24, 3.0),
        (32, 4.0),
        (33, 5.0),
        hours=60,
        task=same_day,
        aggregations=("last", "count"),
    )
    same(column(made, "hr_count"), [1, 3, 1])
    same(column(made, "hr_last"), [1, 4, 5])


def test_nothing_that_is_known_after_the_last_row_counts():
    made = hr((15, 70.0, 17), (16.25, 80.0))
    same(column(made, "hr_last"), [NAN] * 4)


def test_missing_and_foreign_values_are_not_facts():
    tables = make_tables(
        [{"stay_id": 1, "discharged_at": 4}],
        [
            {"stay_id": 1, "time": 1, "variable": "hr", "value": None},
            {"stay_id": 1, "time": 2, "variable": "hr", "value": NAN},
            {"stay_id": 1, "time": 3, "variable": "glu", "value": 100.0},
            {"stay_id": 2, "time": 3, "variable": "hr", "value": 60.0},
        ],
    )
    same(column(built(tables), "hr_missing"), [1])


def test_columns_depend_on_the_configuration_alone():
    config = FeaturesConfig(name="f", aggregations=("last", "max"), statics=("age", "sex"))
    names = [
        f.name for f in list_features(config, ("hr", "lact"), ("insulin",), {"sex": ["F", "M"]})
    ]
    assert names == [
        *(
            "hr_last",
            "lact_last",
            "hr_max",
            "lact_max",
            "hr_missing",
            "lact_missing",
            "hr_since",
            "lact_since",
        ),
        *("insulin_on", "insulin_dose", "insulin_since", "age", "sex=F", "sex=M", "hours"),
    ]
    empty = make_tables([{"stay_id": 1, "discharged_at": 4}])
    served = build_sequences(
        empty, TaskConfig(name="t"), config, ("hr", "lact"), ("insulin",), {"sex": ["F", "M"]}
    )
    assert [f.name for f in served.features] == names


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
    made = built(make_tables(stays), vocabulary=vocabulary, held=(), statics=statics, time=True)
    same(made.x[0], [60, NAN, 30, 1, 0, 0, 1, 4])
    same(made.x[1], [60, NAN, 30, 1, 0, 0, 1, 8])
    same(made.x[2], [NAN, 80, -2, 0, 0, 0, 0, 4])  # an unknown category is all zeros


def test_the_vocabulary_is_sorted_and_knows_no_null():
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
def test_unknown_names_are_refused_with_the_nearest(features):
    with pytest.raises(UsageError, match=r"hart|insulin|agee"):
        built(make_tables([{"stay_id": 1, "discharged_at": 8}]), **features)


@pytest.mark.parametrize(
    "features",
    [{"variables": ("hr", "hr")}, {"statics": ("age", "age")}, {"aggregations": ("last", "last")}],
)
def test_a_name_that_comes_twice_is_refused(features):
    with pytest.raises(UsageError, match="twice"):
        built(make_tables([{"stay_id": 1, "discharged_at": 8}]), **features)
