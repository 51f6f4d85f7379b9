"""Columns about the past: against the definitions, one row at a time, and hand-computed stays."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from flowsheet.config import (
    Bound,
    FeaturesConfig,
    MovingAverage,
    PastConfig,
    PastWindow,
    TaskConfig,
    VariableSelection,
)
from flowsheet.errors import UsageError
from flowsheet.testing.tables import DRUGS, VARIABLES, make_tables, random_tables
from flowsheet.windows.build import build_sequences, collect_vocabulary, list_features
from flowsheet.windows.features import CellEvents
from flowsheet.windows.grid import Grid

NAN = np.nan
STATISTICS = ("min", "max", "mean", "sd", "count", "slope")
HOURLY = TaskConfig(name="t", step_hours=1, horizon=1)


def make_features(past, **options):
    options = {"statics": (), "time": False, **options}
    return FeaturesConfig(name="f", past=past, **options)


def build(tables, past, variables=VARIABLES, drugs=(), task=HOURLY, **options):
    features = make_features(past, **options)
    vocabulary = collect_vocabulary(tables)
    return build_sequences(tables, task, features, variables, drugs, vocabulary)


def column(sequences, name):
    names = [feature.name for feature in sequences.features]
    return sequences.x[:, names.index(name)]


def assert_column(sequences, name, expected):
    np.testing.assert_allclose(column(sequences, name), expected, rtol=1e-5, atol=1e-6)


def make_stay(*values, variable="hr", hours=6, treatments=(), stay=None):
    """One stay; values are (time, value) or (time, value, known_at)."""
    names = ("time", "value", "known_at")
    events = [
        {"stay_id": 1, "variable": variable, **dict(zip(names, value, strict=False))}
        for value in values
    ]
    stays = [{"stay_id": 1, "discharged_at": hours, **(stay or {})}]
    return make_tables(stays, events, [{"stay_id": 1, **row} for row in treatments])


def test_statistics_of_a_window_and_of_the_stay_so_far():
    tables = make_stay((0.5, 80.0), (1.5, 100.0), (3.5, 60.0))
    windows = (PastWindow(hours=2, statistics=STATISTICS), PastWindow(statistics=STATISTICS))
    built = build(tables, PastConfig(windows=windows))
    assert_column(built, "hr_max_2h", [80, 100, 100, 60, 60, NAN])
    assert_column(built, "hr_count_2h", [1, 2, 1, 1, 1, 0])
    assert_column(built, "hr_sd_2h", [0, 10, 0, 0, 0, NAN])
    assert_column(built, "hr_slope_2h", [NAN, 20, NAN, NAN, NAN, NAN])
    assert_column(built, "hr_min_so_far", [80, 80, 80, 60, 60, 60])
    assert_column(built, "hr_mean_so_far", [80, 90, 90, 80, 80, 80])
    assert_column(built, "lact_count_so_far", [0] * 6)


def test_a_value_counts_from_the_cell_in_which_it_becomes_known():
    tables = make_stay((0.5, 80.0, 3.5), (1.5, 100.0))
    built = build(tables, PastConfig(windows=(PastWindow(hours=2, statistics=("max", "slope")),)))
    assert_column(built, "hr_max_2h", [NAN, 100, 100, 80, 80, NAN])
    assert_column(built, "hr_slope_2h", [NAN] * 6)


def test_a_window_is_rounded_up_to_whole_steps():
    tables = make_stay((1, 80.0), (5, 100.0), (9, 60.0), hours=12)
    task = TaskConfig(name="t", step_hours=4, horizon=1)
    built = build(
        tables, PastConfig(windows=(PastWindow(hours=5, statistics=("max",)),)), task=task
    )
    assert_column(built, "hr_max_5h", [80, 100, 100])


def test_the_weight_of_a_value_halves_with_its_age():
    tables = make_stay((1, 80.0), (3, 100.0))
    built = build(tables, PastConfig(averages=(MovingAverage(half_life_hours=2),)))
    assert_column(built, "hr_average_2h", [80, 80, *[(80 * 0.5 + 100) / 1.5] * 4])


def test_the_change_is_from_the_first_known_value_as_long_as_the_last_one_is_valid():
    tables = make_stay((1.5, 90.0), (1.2, 80.0), (3, 100.0), (0.1, 10.0, 4))
    built = build(tables, PastConfig(changes=VariableSelection()), carry_forward_hours=2)
    assert_column(built, "hr_change", [NAN, 10, 20, 20, 20, NAN])


def test_hours_beyond_a_bound():
    tables = make_stay((0.5, 120.0), (2.5, 90.0), (4.5, 130.0))
    bounds = (Bound(variable="hr", above=100, hours=2), Bound(variable="hr", below=100))
    built = build(tables, PastConfig(bounds=bounds))
    assert_column(built, "hr_above_100_2h", [1, 2, 1, 0, 1, 2])
    assert_column(built, "hr_below_100_so_far", [0, 0, 1, 2, 2, 2])


@settings(max_examples=8, deadline=None)
@given(random_tables(), st.sampled_from([1, 6, 24]))
def test_every_statistic_equals_its_definition(tables, step_hours):
    task = TaskConfig(name="t", step_hours=step_hours, horizon=1)
    windows = (PastWindow(hours=12, statistics=STATISTICS), PastWindow(statistics=STATISTICS))
    past = PastConfig(windows=windows, averages=(MovingAverage(half_life_hours=9),))
    built = build(tables, past, task=task)
    grid = Grid.from_stays(tables.stays, task)
    events = CellEvents(grid, tables.events, VARIABLES)
    hour = events.time / 3.6e9
    for row in range(grid.rows):
        stay = built.row_stay[row]
        first_row = {"12h": row - max(1, 12 // step_hours) + 1, "so_far": 0}
        for code, name in enumerate(VARIABLES):
            known = (events.stay == stay) & (events.column == code) & (events.row <= row)
            for suffix, first in first_row.items():
                chosen = known & (events.row >= first)
                for statistic in STATISTICS:
                    expected = compute(statistic, hour[chosen], events.value[chosen])
                    actual = column(built, f"{name}_{statistic}_{suffix}")[row]
                    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)
            weight = 0.5 ** ((hour[known].max(initial=0) - hour[known]) / 9)
            average = np.average(events.value[known], weights=weight) if known.any() else NAN
            actual = column(built, f"{name}_average_9h")[row]
            np.testing.assert_allclose(actual, average, rtol=1e-5, atol=1e-5)


def compute(statistic, hours, values):
    """A statistic by its definition."""
    if statistic == "count":
        return len(values)
    if not len(values):
        return NAN
    if statistic == "slope":
        is_line = len(np.unique(hours)) > 1
        return np.polyfit(hours - hours.mean(), values, 1)[0] if is_line else NAN
    functions = {"min": np.min, "max": np.max, "mean": np.mean, "sd": np.std}
    return functions[statistic](values)


def test_ratios_need_all_their_values():
    tables = make_tables(
        [{"stay_id": 1, "discharged_at": 3}],
        [
            {"stay_id": 1, "time": 0.5, "variable": "hr", "value": 120.0},
            {"stay_id": 1, "time": 1.5, "variable": "sbp", "value": 80.0},
            {"stay_id": 1, "time": 1.5, "variable": "bun", "value": 40.0},
            {"stay_id": 1, "time": 1.5, "variable": "crea", "value": 2.0},
            {"stay_id": 1, "time": 1.5, "variable": "o2sat", "value": 90.0},
            {"stay_id": 1, "time": 1.5, "variable": "po2", "value": 60.0},
            {"stay_id": 1, "time": 1.5, "variable": "fio2", "value": 50.0},
        ],
    )
    available = ("hr", "sbp", "bun", "crea", "o2sat", "po2", "fio2", "plt")
    built = build(tables, PastConfig(derived="all"), variables=available)
    assert_column(built, "shock_index", [NAN, 1.5, 1.5])
    assert_column(built, "bun_creatinine", [NAN, 20, 20])
    assert_column(built, "spo2_fio2", [NAN, 180, 180])
    assert_column(built, "pao2_fio2", [NAN, 120, 120])
    # P/F below 300 without a ventilator: 2; creatinine 2: 2; platelets are not known: 0
    assert_column(built, "partial_sofa", [0, 4, 4])


def test_urine_rate_by_hours_and_weight():
    values = [(hour, 80.0) for hour in range(1, 31)]
    tables = make_stay(*values, variable="urine", hours=31, stay={"weight_kg": 80.0})
    built = build(tables, PastConfig(derived="all"), variables=("urine",))
    rate = column(built, "urine_rate")
    assert np.isnan(rate[:5]).all()
    np.testing.assert_allclose(rate[5:30], 1.0)
    assert rate[30] == pytest.approx(23 / 24)


def test_norepinephrine_equivalents_of_what_runs():
    rows = [
        {"drug": "norepinephrine", "start": 0.5, "end": 3.5, "dose": 6.0},
        {"drug": "vasopressin", "start": 1.5, "end": 2.5, "dose": 2.4},
        {"drug": "norepinephrine", "start": 4.5, "end": 5.5, "dose": None},
    ]
    tables = make_stay(treatments=rows)
    drugs = ("norepinephrine", "vasopressin")
    built = build(tables, PastConfig(derived="all"), variables=(), drugs=drugs)
    # 6 mcg/kg/h are 0.1 a minute; 2.4 U/h are 0.04 a minute, worth another 0.1
    assert_column(built, "norepinephrine_equivalents", [0.1, 0.2, 0.1, 0, NAN, 0])


def list_names(past, variables=VARIABLES, drugs=DRUGS):
    return [f.name for f in list_features(make_features(past), variables, drugs, {})]


def test_all_takes_what_the_extract_allows_and_a_name_must_be_computable():
    assert list_names(PastConfig(derived="all"))[-1] == "norepinephrine_equivalents"
    assert "shock_index" not in list_names(PastConfig(derived="all"))
    for name in ("shock_index", "shok_index"):
        with pytest.raises(UsageError):
            list_names(PastConfig(derived=(name,)))


def test_a_bound_of_an_unavailable_variable_is_left_out_and_of_an_unknown_one_an_error():
    assert not any(
        "map" in n for n in list_names(PastConfig(bounds=(Bound(variable="map", below=65),)))
    )
    with pytest.raises(UsageError, match="heart"):
        list_names(PastConfig(bounds=(Bound(variable="heart", below=65),)))
    with pytest.raises(ValidationError, match="either above or below"):
        Bound(variable="hr")


def test_no_column_twice():
    window = PastWindow(hours=8, statistics=("max",))
    with pytest.raises(UsageError, match="hr_max_8h"):
        list_names(PastConfig(windows=(window, window)))


def test_labels_are_in_words():
    past = PastConfig(
        windows=(PastWindow(hours=8, variables=("hr",), statistics=("max",)),),
        bounds=(Bound(variable="hr", above=100, hours=24),),
    )
    labels = [f.label for f in list_features(make_features(past), VARIABLES, (), {}) if f.label]
    assert labels == [
        "highest heart rate of the last 8 h",
        "hours with heart rate above 100 of the last 24 h",
    ]
