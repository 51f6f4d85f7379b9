"""Onset and end of episodes, on cases that can be checked by hand."""

from __future__ import annotations

import pytest

from flowsheet.cohort.sepsis3 import Sepsis3Options
from tests.cohort.sepsis3.cases import (
    DEFAULT,
    add_treatment,
    healthy_record,
    onset_hours,
    septic_record,
)
from tests.cohort.sepsis3.records import Record, at, label_and_compare


def known_at(record):
    return label_and_compare([record], DEFAULT).episodes["known_at"].to_list()


def ends(record, options=DEFAULT):
    return label_and_compare([record], options).episodes["end"].to_list()


def ill_from_the_start():
    """Low pressure from the first hour; creatinine and coma are first charted later."""
    record = Record(90).chart_every("map", 1, 5.5, 90, 60).chart_every("crea", 8, 20, 90, 4.0)
    return add_treatment(record.chart_every("gcs", 4, 30, 90, 8), first=10, last=34)


@pytest.mark.parametrize(
    ("rise", "expected"),
    [
        (20, [20]),  # before suspicion
        (30, [30]),
        (45, [45]),  # after it
        (54, [54]),  # the end of the window
        (54.5, []),
    ],
)
def test_onset_is_when_the_score_rises_around_suspicion(rise, expected):
    record = add_treatment(healthy_record(120), last=42)
    assert onset_hours(record.infuse("norepinephrine", rise, rise + 30, 0.05)) == expected


@pytest.mark.parametrize(("rise", "expected"), [(53, [53]), (52, [])])
def test_the_window_begins_48_hours_before_suspicion(rise, expected):
    """Its first hour, 52, can only be the baseline of a rise."""
    record = healthy_record(160).infuse("norepinephrine", rise, rise + 4, 0.05)
    assert onset_hours(add_treatment(record, first=100, last=130)) == expected


def test_a_rise_of_one_point_is_not_an_onset():
    record = add_treatment(healthy_record(120)).chart("crea", 33, 1.5)
    assert onset_hours(record) == []
    assert onset_hours(record.chart("map", 35, 60)) == [35]


def test_there_is_no_sepsis_without_suspicion():
    assert onset_hours(healthy_record(120).infuse("norepinephrine", 20, 50, 0.2)) == []


def test_organs_are_presumed_healthy_before_they_are_first_measured():
    """A low pressure is one point; creatinine, first charted later, makes it a rise."""
    assert onset_hours(ill_from_the_start()) == [20]


def test_with_observed_the_start_of_charting_is_not_a_rise():
    options = Sepsis3Options(baseline="observed")
    assert onset_hours(ill_from_the_start(), options) == []


def septic_on_arrival(hours=96):
    """Norepinephrine from minute 6, kidney failure, a culture at 1 h."""
    record = Record(hours).infuse("norepinephrine", 0.1, hours, 0.5)
    return record.chart_every("crea", 8, 1, hours, 4).take_culture(1)


def test_septic_on_arrival_is_an_episode_that_was_present_on_admission():
    record = septic_on_arrival()
    for time in range(2, 72, 12):
        record.give("vancomycin", time)
    episodes = label_and_compare([record], DEFAULT).episodes
    assert episodes["onset"].to_list() == [at(1)]
    assert episodes["present_on_admission"].to_list() == [True]


@pytest.mark.parametrize(("rise", "is_present"), [(4, True), (5, False), (31, False)])
def test_an_onset_in_the_first_hours_was_present_on_admission(rise, is_present):
    record = add_treatment(healthy_record(120)).infuse("norepinephrine", rise, 60, 0.05)
    episodes = label_and_compare([record], DEFAULT).episodes
    assert episodes["present_on_admission"].to_list() == [is_present]


def test_death_before_a_second_dose_does_not_hide_sepsis():
    record = septic_on_arrival(9).give("vancomycin", 2)
    record.stay["died_at"] = at(9)
    episodes = label_and_compare([record], DEFAULT).episodes
    assert episodes.select("onset", "known_at").rows() == [(at(1), at(9))]


def test_a_gap_in_charting_is_not_a_rise():
    same = healthy_record(120).chart("bili", 1, 7).chart("bili", 40, 7)
    worse = healthy_record(120).chart("bili", 1, 7).chart("bili", 40, 12).chart("map", 40, 60)
    options = Sepsis3Options(baseline="observed")
    assert onset_hours(add_treatment(same), options) == []
    assert onset_hours(add_treatment(worse), options) == [40]


def test_with_level_no_rise_is_needed():
    record = add_treatment(Record(90).chart_every("crea", 8, 1, 90, 4.0))
    assert onset_hours(record, Sepsis3Options(criterion="level")) == [1]
    assert onset_hours(record, Sepsis3Options(baseline="observed")) == []


def test_an_onset_is_known_when_suspicion_and_score_are_known():
    # The second dose, at 42, is known later than the score, at 35.
    record = add_treatment(healthy_record(120)).infuse("norepinephrine", 31, 50, 0.05)
    assert known_at(record) == [at(42)]
    record = add_treatment(healthy_record(120)).infuse("norepinephrine", 50, 60, 0.05)
    assert known_at(record) == [at(54)]


def test_the_onset_that_is_known_first_opens_the_episode():
    """A culture that reaches the record days late would date the onset back to hour 15."""
    record = add_treatment(healthy_record(240), first=100, last=130)
    record.infuse("norepinephrine", 15, 17, 0.05).infuse("norepinephrine", 60, 62, 0.05)
    assert onset_hours(record) == [60]
    record.take_culture(20, delay=180).give("vancomycin", 20).give("vancomycin", 32)
    assert onset_hours(record) == [60]


def test_orders_by_date_and_charted_doses_give_the_same_onset():
    charted = add_treatment(healthy_record(200), first=40, last=110)
    ordered = healthy_record(200).take_culture(40).order("vancomycin", 40, days=4)
    for record in (charted, ordered):
        assert onset_hours(record.infuse("norepinephrine", 41, 60, 0.1)) == [41]


def test_an_episode_ends_two_days_after_the_last_antibiotic_once_the_score_is_back():
    assert ends(septic_record(last_dose=102)) == [at(102 + 48 + 4)]  # known 4 hours later


def test_an_episode_does_not_end_before_the_score_is_back():
    # Last charted at 294, and the worst score of a day counts.
    record = septic_record(last_dose=54).chart_every("crea", 6, 60, 300, 3)
    assert ends(record) == [at(318 + 4)]


def test_an_episode_that_lasts_until_the_record_ends_has_no_end():
    assert ends(septic_record(last_dose=102, hours=150)) == [None]


def test_a_second_episode_follows_the_first():
    record = septic_record(last_dose=60)
    record.take_culture(250).infuse("norepinephrine", 255, 300, 0.2)
    record.give("meropenem", 250).give("meropenem", 264)
    assert onset_hours(record) == [31, 255]
    assert ends(record)[0] == at(54 + 48 + 4)


def test_an_episode_can_have_a_fixed_length():
    options = Sepsis3Options(end="fixed", end_days=3)
    assert ends(septic_record(last_dose=102), options) == [at(31 + 72)]
