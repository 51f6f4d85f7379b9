"""Suspicion of infection, on cases that can be checked by hand."""

from __future__ import annotations

from datetime import timedelta

import pytest

from flowsheet.cohort.sepsis3 import Sepsis3Options
from tests.cohort.sepsis3.cases import ANY_DOSE, DEFAULT, healthy_record, suspicion_hours
from tests.cohort.sepsis3.records import at, label_and_compare, midnight


def known_at(record, options):
    return label_and_compare([record], options).suspicions["known_at"].to_list()


@pytest.mark.parametrize(
    ("culture", "antibiotic", "expected"),
    [
        (10, 20, [10]),  # culture first
        (10, 82, [10]),  # exactly 72 h
        (10, 82.25, []),
        (20, 10, [10]),  # antibiotic first
        (34, 10, [10]),  # exactly 24 h
        (34.25, 10, []),
        (10, 10, [10]),
        (-30, 40, []),  # before the stay: its window ends at hour -6
        (-20, 40, [-20]),
    ],
)
def test_suspicion_is_a_culture_and_an_antibiotic_close_together(culture, antibiotic, expected):
    record = healthy_record().take_culture(culture).give("vancomycin", antibiotic)
    assert suspicion_hours(record) == expected


def test_a_suspicion_is_known_when_both_are_known():
    record = healthy_record().take_culture(10, delay=3).give("vancomycin", 20, delay=2)
    assert known_at(record, ANY_DOSE) == [at(22)]


@pytest.mark.parametrize("route", ["eye", "Topical", "catheter lock"])
def test_routes_that_treat_a_surface_are_excluded(route):
    record = healthy_record().take_culture(10).give("vancomycin", 12, route=route)
    labels = label_and_compare([record], ANY_DOSE)
    assert labels.suspicions.is_empty()
    assert labels.counts["antibiotics excluded: route"] == 1


def test_antifungals_count_only_if_their_group_is_chosen():
    record = healthy_record().take_culture(10).give("fluconazole", 12)
    with_antifungals = Sepsis3Options(confirm_after_hours=0, groups=("antibiotic", "antifungal"))
    assert suspicion_hours(record) == []
    assert suspicion_hours(record, with_antifungals) == [10]


def test_screens_are_excluded():
    record = healthy_record().take_culture(10, specimen="MRSA SCREEN").give("vancomycin", 12)
    labels = label_and_compare([record], ANY_DOSE)
    assert labels.suspicions.is_empty()
    assert labels.counts["cultures excluded: specimen"] == 1


def test_a_single_dose_is_not_a_treatment():
    record = healthy_record().take_culture(10).give("vancomycin", 12)
    assert suspicion_hours(record, DEFAULT) == []
    assert suspicion_hours(record.give("meropenem", 24), DEFAULT) == [10]


@pytest.mark.parametrize(
    ("drug", "died", "expected"),
    [
        ("vancomycin", None, [10]),  # the stay ends before another dose is due
        ("vancomycin", 30, [10]),
        ("cefazolin", None, []),  # prophylaxis often ends with the stay
        ("cefazolin", 30, [10]),
    ],
)
def test_the_end_of_the_record_confirms_a_single_dose(drug, died, expected):
    record = healthy_record(hours=30).take_culture(10).give(drug, 12)
    record.stay["died_at"] = None if died is None else at(died)
    assert suspicion_hours(record, DEFAULT) == expected
    assert known_at(record, DEFAULT) == [at(30)] * len(expected)
    options = Sepsis3Options(end_confirms=False)
    assert suspicion_hours(record, options) == []


def test_the_end_of_a_stay_does_not_confirm_an_order_by_date():
    record = healthy_record(hours=30).take_culture(10).order("vancomycin", 10, days=1)
    assert suspicion_hours(record, DEFAULT) == []
    record.stay["died_at"] = at(40)
    assert suspicion_hours(record, DEFAULT) == [10]


def test_only_the_start_of_a_course_is_suspicious_if_chosen():
    record = healthy_record(hours=400).take_culture(200)
    for time in range(60, 230, 12):
        record.give("vancomycin", time)
    options = Sepsis3Options(antibiotic_course="start")
    assert suspicion_hours(record, options) == []
    assert suspicion_hours(record, DEFAULT)[0] == 180
    record.give("meropenem", 205).give("meropenem", 217)
    assert suspicion_hours(record, options) == [200]


def test_a_treatment_is_known_with_its_second_dose():
    record = healthy_record().take_culture(10).give("vancomycin", 12)
    record.give("vancomycin", 24, delay=1)
    assert known_at(record, DEFAULT) == [at(25)]


def test_prophylaxis_counts_only_if_antibiotics_continue():
    record = healthy_record().take_culture(1)
    for time in (2, 10, 18, 26):
        record.give("cefazolin", time)
    assert suspicion_hours(record, DEFAULT) == []
    assert suspicion_hours(record.give("vancomycin", 50), DEFAULT) == [1]


def test_an_order_by_date_may_begin_at_any_moment_of_its_day():
    # Admitted at 21:40: the order covers hours 2.33 to 26.33, and the culture is inside.
    record = healthy_record().take_culture(10).order("vancomycin", 10, days=1)
    assert suspicion_hours(record) == [10]
    assert known_at(record, ANY_DOSE) == [midnight(10) + timedelta(days=1)]


def test_an_order_on_the_day_before_the_culture_begins_at_midnight():
    record = healthy_record().order("vancomycin", 10, days=1).take_culture(40)
    suspicions = label_and_compare([record], ANY_DOSE).suspicions
    assert suspicions["time"].to_list() == [midnight(10)]


def test_an_order_of_one_day_is_a_single_dose_but_one_of_two_days_is_not():
    one_day = healthy_record().take_culture(10).order("vancomycin", 10, days=1)
    two_days = healthy_record().take_culture(10).order("vancomycin", 10, days=2)
    assert suspicion_hours(one_day, DEFAULT) == []
    assert suspicion_hours(two_days, DEFAULT) == [10]


def test_a_culture_by_date_may_be_taken_at_any_moment_of_its_day():
    record = healthy_record().take_culture(10, date_only=True).give("vancomycin", 12)
    assert suspicion_hours(record) == [12]
