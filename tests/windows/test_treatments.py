import numpy as np
import pytest

from flowsheet.config import FeaturesConfig, TaskConfig
from flowsheet.errors import UsageError
from flowsheet.testing.tables import make_tables
from flowsheet.windows.build import build_sequences, collect_vocabulary
from flowsheet.windows.treatments import TreatmentFeatures

NAN = np.nan


def build(*exposures, hours=16, stay=None, drugs=("norepinephrine", "vancomycin"), **task):
    """The columns on, dose and since of norepinephrine, in steps of four hours."""
    rows = [
        {"stay_id": 1, "drug": "norepinephrine", "unit": "mcg/kg", **exposure}
        for exposure in exposures
    ]
    tables = make_tables([{"stay_id": 1, "discharged_at": hours, **(stay or {})}], treatments=rows)
    features = FeaturesConfig(name="f", statics=(), time=False)
    config = TaskConfig(name="t", **{"step_hours": 4, **task})
    vocabulary = collect_vocabulary(tables)
    sequences = build_sequences(tables, config, features, (), drugs, vocabulary)
    assert all(feature.kind == "treatment" for feature in sequences.features)
    names = [feature.name for feature in sequences.features]
    columns = ("norepinephrine_on", "norepinephrine_dose", "norepinephrine_since")
    return [sequences.x[:, names.index(column)] for column in columns]


def assert_columns(actual, *, on, dose, since):
    np.testing.assert_array_equal(np.stack(actual), np.array([on, dose, since], np.float32))


def test_a_single_dose():
    columns = build({"start": 5, "end": 5, "dose": 30.0})
    assert_columns(columns, on=[0, 1, 0, 0], dose=[0, 30, 0, 0], since=[NAN, 3, 7, 11])


def test_the_dose_of_an_infusion_is_its_rate_times_the_hours_in_each_cell():
    columns = build({"start": 2, "end": 9, "dose": 10.0})
    assert_columns(columns, on=[1, 1, 1, 0], dose=[20, 40, 10, 0], since=[0, 0, 3, 7])


def test_an_infusion_that_ends_at_a_boundary_is_not_in_the_next_cell():
    columns = build({"start": 4, "end": 8, "dose": 1.0})
    assert_columns(columns, on=[1, 1, 0, 0], dose=[0, 4, 0, 0], since=[0, 0, 4, 8])


def test_an_infusion_that_becomes_known_late_counts_with_its_earlier_dose():
    columns = build({"start": 1, "end": 11, "known_at": 6, "dose": 10.0})
    assert_columns(columns, on=[0, 1, 1, 0], dose=[0, 70, 30, 0], since=[NAN, 0, 1, 5])


def test_an_infusion_that_becomes_known_after_its_end_counts_completely():
    columns = build({"start": 1, "end": 3, "known_at": 9, "dose": 10.0})
    assert_columns(columns, on=[0, 0, 1, 0], dose=[0, 0, 20, 0], since=[NAN, NAN, 9, 13])


def test_an_order_known_in_advance_counts_from_its_start():
    columns = build({"start": 9, "end": 9, "known_at": 1, "dose": 5.0})
    assert_columns(columns, on=[0, 0, 1, 0], dose=[0, 0, 5, 0], since=[NAN, NAN, 3, 7])


def test_exposures_before_admission_count_in_the_first_row():
    columns = build({"start": -6, "end": -2, "dose": 1.0}, {"start": -1, "end": 6, "dose": 10.0})
    assert_columns(columns, on=[1, 1, 0, 0], dose=[54, 20, 0, 0], since=[0, 2, 6, 10])


def test_doses_are_summed_and_an_unknown_dose_only_sets_on():
    columns = build(
        {"start": 1, "end": 1, "dose": 5.0},
        {"start": 2, "end": 2, "dose": 7.0},
        {"start": 6, "end": 6},
    )
    assert_columns(columns, on=[1, 1, 0, 0], dose=[12, 0, 0, 0], since=[2, 2, 6, 10])


def test_doses_after_discharge_do_not_count():
    columns = build({"start": 14, "end": 30, "dose": 1.0}, {"start": 20, "end": 20})
    assert_columns(columns, on=[0, 0, 0, 1], dose=[0, 0, 0, 2], since=[NAN, NAN, NAN, 0])


def test_with_horizon_0_a_cell_reaches_from_cut_off_to_cut_off():
    columns = build(
        {"start": 6, "end": 40, "dose": 1.0}, hours=72, step_hours=24, horizon=0, cutoff_hours=8
    )
    assert_columns(columns, on=[1, 1, 1], dose=[2, 24, 8], since=[0, 0, 16])


def test_only_the_drugs_of_the_extract_have_columns():
    columns = build({"start": 1, "end": 1, "dose": 5.0}, {"start": 1, "end": 1, "drug": "insulin"})
    assert_columns(columns, on=[1, 0, 0, 0], dose=[5, 0, 0, 0], since=[3, 7, 11, 15])


def test_only_the_selected_columns_are_built():
    tables = make_tables(
        [{"stay_id": 1, "discharged_at": 8}],
        treatments=[{"stay_id": 1, "drug": "insulin", "start": 1, "end": 1, "dose": 5.0}],
    )
    task = TaskConfig(name="t", step_hours=4)
    vocabulary = collect_vocabulary(tables)

    def build_columns(*columns):
        features = FeaturesConfig(name="f", statics=(), time=False, treatment_columns=columns)
        return build_sequences(tables, task, features, (), ("insulin", "propofol"), vocabulary)

    all_columns = build_columns("on", "dose", "since")
    selected = build_columns("since", "dose")
    names = [feature.name for feature in selected.features]
    assert names == ["insulin_since", "propofol_since", "insulin_dose", "propofol_dose"]
    all_names = [feature.name for feature in all_columns.features]
    positions = [all_names.index(name) for name in names]
    np.testing.assert_array_equal(selected.x, all_columns.x[:, positions])


def test_a_column_listed_twice_is_refused():
    with pytest.raises(UsageError, match="twice"):
        TreatmentFeatures(FeaturesConfig(name="f", treatment_columns=("dose", "dose")), ["insulin"])


@pytest.mark.parametrize(
    ("exposure", "expected"),
    [
        ({"drug": "vancomycin", "start": 5}, [1, 0, 0, 0]),
        ({"drug": "vancomycin", "start": 8, "known_at": 8}, [1, 0, 0, 0]),  # at the prediction
        ({"drug": "vancomycin", "start": 5, "known_at": 10}, [1, 1, 0, 0]),  # charted late
        ({"drug": "vancomycin", "start": 10, "known_at": 3}, [0, 0, 0, 0]),  # ordered ahead
        ({"drug": "acyclovir", "start": -4}, [0, 0, 0, 0]),
        ({"drug": "norepinephrine", "start": 1}, [1, 1, 1, 1]),
    ],
)
def test_rows_before_treatment_know_of_no_anti_infective(exposure, expected):
    exposure = {"stay_id": 2, "end": exposure["start"], **exposure}
    stays = [{"stay_id": stay, "discharged_at": 16} for stay in (1, 2)]
    tables = make_tables(stays, treatments=[exposure, {**exposure, "stay_id": 9}])
    task = TaskConfig(name="t", step_hours=4)
    features = FeaturesConfig(name="f", treatments="none")
    sequences = build_sequences(tables, task, features, (), (), collect_vocabulary(tables))
    assert sequences.before_treatment.tolist() == [True] * 4 + [bool(n) for n in expected]
