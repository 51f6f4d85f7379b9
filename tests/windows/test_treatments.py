import numpy as np
import pytest

from flowsheet.config import FeaturesConfig, TaskConfig
from flowsheet.errors import UsageError
from flowsheet.testing.tables import make_tables
from flowsheet.windows.build import build_sequences, collect_vocabulary
from flowsheet.windows.treatments import Treatments

NAN = np.nan


def given(*exposures, hours=16, stay=None, drugs=("norepinephrine", "vancomycin"), **task):
    """On, dose and hours since of norepinephrine, in steps of four hours."""
    rows = [
        {"stay_id": 1, "drug": "norepinephrine", "unit": "mcg/kg", **exposure}
        for exposure in exposures
    ]
    tables = make_tables([{"stay_id": 1, "discharged_at": hours, **(stay or {})}], treatments=rows)
    features = FeaturesConfig(name="f", statics=(), time=False)
    made = build_sequences(
        tables,
        TaskConfig(name="t", **{"step_hours": 4, **task}),
        features,
        (),
        drugs,
        collect_vocabulary(tables),
    )
    assert all(feature.kind == "treatment" for feature in made.features)
    names = [feature.name for feature in made.features]
    return [made.x[:, names.index(f"norepinephrine_{what}")] for what in ("on", "dose", "since")]


def same(actual, *expected):
    np.testing.assert_array_equal(np.stack(actual), np.array(expected, np.float32))


def test_given_at_once():
    same(given({"start": 5, "end": 5, "dose": 30.0}), [0, 1, 0, 0], [0, 30, 0, 0], [NAN, 3, 7, 11])


def test_running_gives_rate_times_hours_of_each_cell():
    made = given({"start": 2, "end": 9, "dose": 10.0})
    same(made, [1, 1, 1, 0], [20, 40, 10, 0], [0, 0, 3, 7])


def test_an_end_on_the_boundary_leaves_the_next_cell_alone():
    same(given({"start": 4, "end": 8, "dose": 1.0}), [1, 1, 0, 0], [0, 4, 0, 0], [0, 0, 4, 8])


def test_known_while_running_brings_what_went_before():
    made = given({"start": 1, "end": 11, "known_at": 6, "dose": 10.0})
    same(made, [0, 1, 1, 0], [0, 70, 30, 0], [NAN, 0, 1, 5])


def test_known_after_its_end_comes_whole():
    made = given({"start": 1, "end": 3, "known_at": 9, "dose": 10.0})
    same(made, [0, 0, 1, 0], [0, 0, 20, 0], [NAN, NAN, 9, 13])


def test_ordered_ahead_counts_from_its_start():
    same(
        given({"start": 9, "end": 9, "known_at": 1, "dose": 5.0}),
        [0, 0, 1, 0],
        [0, 0, 5, 0],
        [NAN, NAN, 3, 7],
    )


def test_before_the_record_begins():
    made = given({"start": -6, "end": -2, "dose": 1.0}, {"start": -1, "end": 6, "dose": 10.0})
    same(made, [1, 1, 0, 0], [54, 20, 0, 0], [0, 2, 6, 10])


def test_doses_add_up_and_one_not_told_is_presence():
    made = given(
        {"start": 1, "end": 1, "dose": 5.0},
        {"start": 2, "end": 2, "dose": 7.0},
        {"start": 6, "end": 6},
    )
    same(made, [1, 1, 0, 0], [12, 0, 0, 0], [2, 2, 6, 10])


def test_beyond_the_record_nothing_is_lost_or_added():
    same(
        given({"start": 14, "end": 30, "dose": 1.0}, {"start": 20, "end": 20}),
        [0, 0, 0, 1],
        [0, 0, 0, 2],
        [NAN, NAN, NAN, 0],
    )


def test_cells_of_the_same_day_reach_from_cut_off_to_cut_off():
    made = given(
        {"start": 6, "end": 40, "dose": 1.0}, hours=72, step_hours=24, horizon=0, cutoff_hours=8
    )
    same(made, [1, 1, 1], [2, 24, 8], [0, 0, 16])


def test_only_the_declared_drugs():
    made = given({"start": 1, "end": 1, "dose": 5.0}, {"start": 1, "end": 1, "drug": "insulin"})
    same(made, [1, 0, 0, 0], [5, 0, 0, 0], [3, 7, 11, 15])


def test_only_the_chosen_columns():
    tables = make_tables(
        [{"stay_id": 1, "discharged_at": 8}],
        treatments=[{"stay_id": 1, "drug": "insulin", "start": 1, "end": 1, "dose": 5.0}],
    )
    task, vocabulary = TaskConfig(name="t", step_hours=4), collect_vocabulary(tables)

    def made(*columns):
        features = FeaturesConfig(name="f", statics=(), time=False, treatment_columns=columns)
        return build_sequences(tables, task, features, (), ("insulin", "propofol"), vocabulary)

    everything, some = made("on", "dose", "since"), made("since", "dose")
    assert [f.name for f in some.features] == [
        "insulin_since",
        "propofol_since",
        "insulin_dose",
        "propofol_dose",
    ]
    places = [[f.name for f in everything.features].index(f.name) for f in some.features]
    np.testing.assert_array_equal(some.x, everything.x[:, places])


def test_a_column_named_twice_is_refused():
    with pytest.raises(UsageError, match="twice"):
        Treatments(FeaturesConfig(name="f", treatment_columns=("dose", "dose")), ["insulin"])
