"""The hourly SOFA-2 score: the published thresholds, and cases that can be checked by hand."""

from __future__ import annotations

import pytest

from flowsheet.cohort.sepsis3 import Sepsis3Options
from tests.cohort.sepsis3.records import Record, label_records

SOFA2 = Sepsis3Options(score="sofa2")


def scores(record, component):
    return label_records([record], SOFA2).sofa[component].to_list()


@pytest.mark.parametrize(
    ("variable", "component", "expected"),
    [
        ("gcs", "cns", {15: 0, 14: 1, 13: 1, 12: 2, 9: 2, 8: 3, 6: 3, 5: 4, 3: 4}),
        ("mgcs", "cns", {6: 0, 5: 1, 4: 2, 3: 3, 2: 4, 1: 4}),
        ("plt", "coagulation", {151: 0, 150: 1, 100: 2, 80: 3, 81: 2, 50: 4, 51: 3}),
        ("bili", "liver", {1.2: 0, 1.3: 1, 3: 1, 3.1: 2, 6: 2, 6.1: 3, 12: 3, 12.1: 4}),
        ("map", "cardiovascular", {70: 0, 69: 1, 30: 1}),
        ("crea", "renal", {1.2: 0, 1.3: 1, 2.0: 1, 2.1: 2, 3.5: 2, 3.6: 3, 9: 3}),
    ],
)
def test_a_measurement_is_scored(variable, component, expected):
    for value, score in expected.items():
        record = Record(3).chart(variable, 1, value)
        assert scores(record, component)[0] == score, value


@pytest.mark.parametrize(
    ("po2", "fio2", "vent", "expected"),
    [
        (301, 100, 1, 0),
        (300, 100, 1, 1),
        (225, 100, 1, 2),
        (150, 100, 1, 3),
        (150, 100, 0, 2),
        (75, 100, 1, 4),
        (75, 100, 0, 2),
    ],
)
def test_a_blood_gas_is_scored_by_oxygen_and_ventilation(po2, fio2, vent, expected):
    record = Record(8).chart("po2", 4, po2).chart("vent", 1, vent).chart("fio2", 1, fio2)
    assert scores(record, "respiration")[3] == expected
    assert scores(record.chart("o2sat", 4, 60), "respiration")[3] == expected


@pytest.mark.parametrize(
    ("saturation", "fio2", "expected"),
    [(93, 30, 0), (90, 30, 1), (90, 36, 2), (90, 45, 3), (90, 75, 4), (98, 100, None)],
)
def test_the_saturation_is_used_without_a_blood_gas(saturation, fio2, expected):
    record = Record(8).chart("o2sat", 4, saturation).chart("vent", 1, 1).chart("fio2", 1, fio2)
    assert scores(record, "respiration")[4] == expected


@pytest.mark.parametrize(
    ("drugs", "expected"),
    [
        ({"norepinephrine": 0.2}, 2),
        ({"norepinephrine": 0.15, "epinephrine": 0.15}, 3),
        ({"norepinephrine": 0.4}, 3),
        ({"norepinephrine": 0.41}, 4),
        ({"norepinephrine": 0.1, "vasopressin": 0.04}, 3),
        ({"norepinephrine": 0.3, "dobutamine": 5}, 4),
        ({"norepinephrine": 0.5, "dobutamine": 5}, 4),
        ({"norepinephrine": 0.1, "dopamine": 50}, 3),
        ({"milrinone": 0.3}, 2),
        ({"phenylephrine": None}, 2),
        ({"dopamine": 20}, 2),
        ({"dopamine": 21}, 3),
        ({"dopamine": 41}, 4),
        ({"dopamine": 41, "milrinone": 0.3}, 2),
    ],
)
def test_vasopressors_are_scored_together(drugs, expected):
    record = Record(48)
    for drug, rate in drugs.items():
        record.infuse(drug, 2, 5, rate)
    assert scores(record, "cardiovascular") == [None] + [expected] * 27 + [None] * 20


def test_vasopressors_that_do_not_run_together_are_not_added():
    record = Record(20).infuse("norepinephrine", 2, 5, 0.15).infuse("epinephrine", 5, 8, 0.15)
    assert set(scores(record, "cardiovascular")[2:]) == {2}
    assert set(scores(Record(20).infuse("norepinephrine", 2, 2.5, 0.5), "cardiovascular")) == {None}


def test_the_coma_score_under_sedation_is_the_one_before():
    record = Record(80).chart("gcs", 1, 14).infuse("propofol", 2, 60, 3)
    assert scores(record.chart_every("gcs", 4, 4, 56, 3), "cns")[:59] == [1] * 59
    unknown = Record(30).infuse("propofol", 2, 60, 3).chart_every("gcs", 4, 4, 30, 3)
    assert scores(unknown, "cns")[1:] == [0] * 29


def test_treatment_of_delirium_is_one_point():
    record = Record(20).chart("gcs", 1, 15)
    record.infuse("haloperidol", 2, 2, 1)
    assert scores(record, "cns")[:3] == [0, 1, 1]


@pytest.mark.parametrize(
    ("hourly", "expected"),
    [
        (45, [0] * 30),  # 0.56 mL/kg/h
        (36, [1] * 6 + [2] * 24),  # 0.45 from the sixth hour on
        (20, [1] * 6 + [2] * 12 + [3] * 12),  # 0.25
        (0, [1] * 6 + [3] * 24),
    ],
)
def test_urine_is_scored_by_weight_and_time(hourly, expected):
    record = Record(35).chart("weight", 0, 80).chart_every("urine", 1, 1, 36, hourly)
    assert scores(record, "renal") == [None] * 5 + expected


def test_urine_without_a_weight_is_scored_only_if_there_is_none():
    low = Record(30).chart_every("urine", 1, 1, 31, 5)
    none = Record(30).chart_every("urine", 1, 1, 31, 0)
    assert set(scores(low, "renal")) == {None}
    assert scores(none, "renal") == [None] * 11 + [3] * 19


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"crea": 1.3, "k": 6}, 4),
        ({"crea": 1.3, "k": 5.9}, 1),
        ({"crea": 1.2, "k": 7}, 0),
        ({"crea": 1.3, "ph": 7.2, "bicar": 12}, 4),
        ({"crea": 1.3, "ph": 7.2, "bicar": 13}, 1),
        ({"crea": 1.0, "rrt": 1}, 4),
    ],
)
def test_renal_replacement_therapy_or_its_criteria_are_four_points(values, expected):
    record = Record(8)
    for variable, value in values.items():
        record.chart(variable, 2, value)
    assert scores(record, "renal")[2] == expected


def test_sepsis_can_be_defined_by_sofa2():
    record = Record(96).infuse("norepinephrine", 10, 50, 0.05).take_culture(8)
    for hour in (9, 21, 33):
        record.give("vancomycin", hour)
    assert label_records([record], SOFA2).episodes.height == 1
