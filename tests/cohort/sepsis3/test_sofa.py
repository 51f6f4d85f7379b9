"""The hourly SOFA score, on cases that can be checked by hand."""

from __future__ import annotations

import pytest

from flowsheet.cohort.sepsis3 import COMPONENTS, Sepsis3Options
from tests.cohort.sepsis3.cases import DEFAULT, component_scores
from tests.cohort.sepsis3.records import Record, label_and_compare


@pytest.mark.parametrize(
    ("variable", "component", "scores"),
    [
        ("plt", "coagulation", {150: 0, 149: 1, 100: 1, 99: 2, 50: 2, 49: 3, 20: 3, 19: 4}),
        ("bili", "liver", {1.1: 0, 1.2: 1, 1.9: 1, 2.0: 2, 5.9: 2, 6.0: 3, 11.9: 3, 12.0: 4}),
        ("map", "cardiovascular", {70: 0, 69: 1}),
        ("gcs", "cns", {15: 0, 14: 1, 13: 1, 12: 2, 10: 2, 9: 3, 6: 3, 5: 4, 3: 4}),
        ("crea", "renal", {1.1: 0, 1.2: 1, 1.9: 1, 2.0: 2, 3.4: 2, 3.5: 3, 4.9: 3, 5.0: 4}),
    ],
)
def test_a_measurement_is_scored(variable, component, scores):
    for value, score in scores.items():
        record = Record(3).chart(variable, 1, value)
        assert component_scores(record, component)[0] == score, value


@pytest.mark.parametrize(
    ("drug", "scores"),
    [
        ("norepinephrine", {None: 3, 0.02: 3, 0.1: 3, 0.11: 4, 0.0: None}),
        ("epinephrine", {0.1: 3, 0.2: 4}),
        ("dopamine", {None: 2, 5: 2, 5.1: 3, 15: 3, 15.1: 4}),
        ("dobutamine", {None: 2, 2: 2, 20: 2}),
        ("vasopressin", {0.04: None}),
    ],
)
def test_a_vasopressor_is_scored_while_it_runs_and_for_a_day_after(drug, scores):
    for rate, score in scores.items():
        record = Record(40).infuse(drug, 2, 5, rate)
        expected = [None] + [score] * 27 + [None] * 12
        assert component_scores(record, "cardiovascular") == expected, rate


@pytest.mark.parametrize(
    ("po2", "fio2", "vent", "score"),
    [
        (84, 21, 0, 0),
        (80, 21, 0, 1),
        (80, 40, 1, 2),
        (60, 40, 0, 2),  # a ratio of 150, but without ventilation
        (60, 40, 1, 3),
        (60, 100, 0, 2),
        (60, 100, 1, 4),
        (60, None, 1, None),
    ],
)
def test_a_blood_gas_is_scored_by_oxygen_and_ventilation(po2, fio2, vent, score):
    record = Record(8).chart("po2", 4, po2).chart("vent", 1, vent)
    if fio2 is not None:
        record.chart("fio2", 1, fio2)
    assert component_scores(record, "respiration")[3] == score


def test_oxygen_that_was_charted_too_long_before_is_not_used():
    record = Record(8).chart("fio2", 1, 40).chart("po2", 5.25, 60)
    assert component_scores(record, "respiration")[5] is None


def test_the_coma_score_is_summed_from_its_three_parts():
    two_parts = Record(4).chart("egcs", 1, 2).chart("vgcs", 1, 1)
    assert component_scores(two_parts, "cns")[0] is None
    assert component_scores(two_parts.chart("mgcs", 1, 4), "cns")[0] == 3


def test_the_worst_score_of_exactly_24_hours_counts():
    record = Record(40).chart_every("map", 1, 0.5, 40, 90).chart("map", 3.25, 50)
    assert component_scores(record, "cardiovascular") == [0] * 3 + [1] * 24 + [0] * 13


def test_a_measurement_on_the_hour_belongs_to_that_hour():
    record = Record(40).chart("crea", 3, 2)
    assert component_scores(record, "renal") == [None] * 2 + [2] * 24 + [None] * 14


def test_a_late_measurement_counts_from_its_arrival():
    # Known at hour 13; the score of an hour is computed 4 hours after it.
    record = Record(40).chart("crea", 3, 2, delay=10)
    assert component_scores(record, "renal") == [None] * 8 + [2] * 18 + [None] * 14


@pytest.mark.parametrize(("hourly", "score"), [(25, 0), (20, 3), (9, 3), (8, 4)])
def test_urine_is_scored_once_it_covers_a_day(hourly, score):
    record = Record(40).chart_every("urine", 1, 1, 41, hourly)
    assert component_scores(record, "renal") == [None] * 21 + [score] * 19


def test_urine_is_scaled_to_the_time_that_it_covers():
    record = Record(30).chart("urine", 22, 400)  # 436 mL a day
    assert component_scores(record, "renal")[20:23] == [None, 3, 3]


def test_the_amount_of_a_day_is_not_known_if_the_readings_cover_much_more():
    record = Record(60).chart("urine", 1, 50).chart("urine", 40, 600)
    assert set(component_scores(record, "renal")) == {None}


@pytest.mark.parametrize(("amount", "score"), [(0, 4), (90, 4), (120, 3), (260, None)])
def test_a_low_total_over_more_than_a_day_is_a_low_total_of_a_day(amount, score):
    record = Record(80).chart_every("urine", 16, 16, 80, amount)
    assert component_scores(record, "renal")[31:79] == [score] * 48


def test_renal_replacement_therapy_scores_four_points():
    record = Record(72).chart("crea", 1, 6).chart_every("crea", 6, 30, 72, 1.5)
    record.chart_every("rrt", 4, 6, 60, 1).chart("rrt", 60, 0)
    assert component_scores(record, "renal") == [4 if hour >= 1 else None for hour in range(1, 73)]
    without = Sepsis3Options(rrt_points=False)
    assert component_scores(record, "renal", without)[48:] == [1] * 24


def test_irrigant_is_subtracted_over_the_whole_day():
    record = Record(60)
    for hour in range(4, 60, 4):
        record.chart("urine", hour, 3500).chart("bladder_irrigant", hour + 0.5, 3480)
    assert component_scores(record, "renal")[27:] == [4] * 33  # 120 mL a day
    record = Record(60)
    for hour in range(2, 60, 2):
        record.chart("urine", hour, 900).chart("bladder_irrigant", hour + 0.5, 800)
    assert component_scores(record, "renal")[25:] == [0] * 35  # 1.2 L a day


def test_urine_is_not_known_if_more_irrigant_went_in_than_came_out():
    record = Record(60)
    for hour in range(4, 60, 4):
        record.chart("bladder_irrigant", hour - 1, 3000).chart("urine", hour, 2900)
    assert set(component_scores(record, "renal")) == {None}


@pytest.mark.parametrize("delay", [0.25, 5, 7, 13])
@pytest.mark.parametrize("charting_delay", [0, 4])
def test_urine_that_is_stored_late_does_not_look_like_oliguria(delay, charting_delay):
    record = Record(96)
    for n, hour in enumerate(range(6, 97, 6)):
        record.chart("urine", hour, 400, delay=0 if n % 4 == 3 else delay)
    options = Sepsis3Options(charting_delay_hours=charting_delay)
    assert set(component_scores(record, "renal", options)) == {None, 0}


def test_missing_components_count_zero():
    sofa = label_and_compare([Record(5).chart("crea", 1, 2.5)], DEFAULT).sofa
    assert sofa["total"].to_list() == [2] * 5
    assert sofa["known"].to_list() == [1] * 5
    assert [name for name in COMPONENTS if sofa[name].is_not_null().any()] == ["renal"]
