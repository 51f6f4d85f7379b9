"""Published conventions, and the options in which they differ, on cases checked by hand."""

from __future__ import annotations

from datetime import timedelta

import pytest

from flowsheet.cohort.sepsis3 import Sepsis3Options
from flowsheet.cohort.sepsis3.conventions import CONVENTIONS
from tests.cohort.sepsis3.cases import (
    ANY_DOSE,
    DEFAULT,
    component_scores,
    healthy_record,
    suspicion_hours,
)
from tests.cohort.sepsis3.records import Record, at, label_and_compare, midnight


@pytest.mark.parametrize("name", CONVENTIONS)
def test_a_convention_is_a_set_of_options_that_explicit_ones_override(name):
    options = Sepsis3Options(convention=name)
    assert options.confirm_after_hours == 0
    assert Sepsis3Options(convention=name, confirm_after_hours=6).confirm_after_hours == 6
    assert Sepsis3Options(**options.model_dump()) == options
    assert Sepsis3Options(convention="flowsheet") == DEFAULT


def test_inspired_oxygen_that_is_not_charted_can_be_that_of_air():
    record = Record(8).chart("po2", 4, 60)
    assert component_scores(record, "respiration")[3] is None
    options = Sepsis3Options(fio2_default=21)
    assert component_scores(record, "respiration", options)[3] == 2


@pytest.mark.parametrize(("spo2", "score"), [(97, 3), (80, 3), (99, None)])
def test_respiration_can_be_scored_by_saturation(spo2, score):
    record = Record(8).chart("o2sat", 4, spo2).chart("vent", 1, 1).chart("fio2", 1, 50)
    assert component_scores(record, "respiration")[4] is None
    options = Sepsis3Options(spo2_fio2=True)
    assert component_scores(record, "respiration", options)[4] == score


def test_a_vasopressor_counts_from_its_start_if_it_runs_for_an_hour():
    short = Record(40).infuse("dopamine", 2, 2.25, 16).infuse("dopamine", 2.25, 2.75, 16)
    assert set(component_scores(short, "cardiovascular")) == {None}
    options = Sepsis3Options(vasopressor_min_hours=0)
    assert component_scores(short, "cardiovascular", options)[1] == 4
    long = short.infuse("dopamine", 2.75, 3, 4)
    assert component_scores(long, "cardiovascular")[:2] == [None, 4]


def test_parts_of_the_coma_score_combine_if_they_are_charted_close_together():
    record = Record(9).chart("egcs", 5, 1).chart("vgcs", 5, 1).chart("mgcs", 5 + 1 / 60, 1)
    assert component_scores(record, "cns")[4:6] == [None, 4]
    record = Record(9).chart("egcs", 1, 4).chart("vgcs", 1, 5).chart("mgcs", 5, 4)
    assert component_scores(record, "cns")[5] is None
    assert component_scores(record, "cns", Sepsis3Options(gcs_carry_hours=6))[5] == 1


def test_a_part_of_the_coma_score_that_is_not_charted_can_be_normal():
    record = Record(9).chart("mgcs", 5, 4)
    assert component_scores(record, "cns")[5] is None
    assert component_scores(record, "cns", Sepsis3Options(gcs_missing_parts="normal"))[5] == 1


@pytest.mark.parametrize(("arrival", "expected"), [(None, 2 + 1 / 3), (10, 10), (-5, 2 + 1 / 3)])
def test_an_order_by_date_does_not_precede_the_arrival(arrival, expected):
    record = healthy_record().order("vancomycin", 10, days=1).take_culture(40)
    record.stay["hospital_admitted_at"] = None if arrival is None else at(arrival)
    assert suspicion_hours(record) == [round(expected, 3)]


def test_an_order_by_date_takes_the_time_of_the_charted_dose_of_its_day():
    record = healthy_record().order("vancomycin", 10, days=1).take_culture(40)
    record.give("vancomycin", 20, delay=2)
    assert suspicion_hours(record) == [20]
    late = healthy_record().order("vancomycin", 10, days=1).take_culture(40)
    assert suspicion_hours(late.give("vancomycin", 20, delay=9)) == [2.333, 20]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("day", at(20)),  # the order is unknown: the later of the two
        ("midnight", midnight(10)),
        ("noon", midnight(10) + timedelta(hours=12)),
    ],
)
def test_a_date_can_be_any_moment_of_the_day_or_midnight_or_noon(name, expected):
    record = healthy_record().order("vancomycin", 10, days=1).take_culture(20)
    options = Sepsis3Options(confirm_after_hours=0, date_only_time=name)
    assert label_and_compare([record], options).suspicions["time"].to_list() == [expected]


def test_each_dose_makes_a_suspicion_with_the_first_of_its_cultures():
    record = healthy_record().take_culture(10).take_culture(15).give("vancomycin", 20)
    assert suspicion_hours(record.take_culture(30)) == [10]
    options = Sepsis3Options(confirm_after_hours=0, first_culture_only=False)
    assert suspicion_hours(record, options) == [10, 15, 20]


def test_the_first_suspicion_can_be_the_only_one():
    record = healthy_record(200).take_culture(10).give("vancomycin", 20)
    record.take_culture(110).give("meropenem", 120)
    assert suspicion_hours(record, ANY_DOSE) == [10, 110]
    options = Sepsis3Options(confirm_after_hours=0, first_suspicion_only=True)
    assert suspicion_hours(record, options) == [10]


def test_a_component_that_is_not_measured_can_count_zero_again():
    record = Record(60).chart("crea", 1, 4)
    changes = [
        label_and_compare([record], Sepsis3Options(missing_score=rule)).sofa["change"].to_list()
        for rule in ("carry", "zero")
    ]
    assert changes == [[3] * 60, [3] * 24 + [0] * 36]


def test_charted_doses_and_antibiotics_before_the_stay_count_unless_they_are_left_out():
    charted = healthy_record(100).take_culture(30)
    charted.give("vancomycin", 31, source="inputevents")
    early = healthy_record(100).take_culture(-1).give("vancomycin", -2)
    assert suspicion_hours(charted, ANY_DOSE) == [30]
    assert suspicion_hours(early, ANY_DOSE) == [-2]
    orders = ANY_DOSE.model_copy(update={"charted_doses": False})
    in_stay = ANY_DOSE.model_copy(update={"antibiotics_in_stay": True})
    assert suspicion_hours(charted, orders) == []
    assert suspicion_hours(early, in_stay) == []
    assert suspicion_hours(charted, in_stay) == [30]


def test_an_antibiotic_in_the_stay_makes_a_suspicion_of_it_however_early_the_culture_was():
    """Its window from 48 h before to 24 h after it ends before the stay, so that no score rises."""
    record = healthy_record(100).take_culture(-60).give("vancomycin", 1)
    in_stay = ANY_DOSE.model_copy(update={"antibiotics_in_stay": True})
    assert suspicion_hours(record, ANY_DOSE) == []
    assert suspicion_hours(record, in_stay) == [-60]
