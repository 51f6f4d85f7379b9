"""Charted values become events: their unit, their time, and what depends on several rows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import pytest

from flowsheet.cohort.schema import Tables
from tests.cohort.mimic3_folder import SourceResult


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def events_of(
    tables: Tables, stay_id: int, variable: str
) -> list[tuple[datetime, datetime, float]]:
    """(time, known_at, value) of a variable in a stay, by time."""
    events = tables.events.filter(stay_id=stay_id, variable=variable).sort("time")
    return events.select("time", "known_at", "value").rows()


def values_of(tables: Tables, stay_id: int, variable: str) -> list[float]:
    return [value for _, _, value in events_of(tables, stay_id, variable)]


def test_values_are_converted_and_known_when_they_were_stored(result: SourceResult):
    tables = result.tables
    time = at("2150-03-01 11:00")
    known_at = at("2150-03-01 11:20")
    assert events_of(tables, 1001, "hr")[0] == (time, known_at, 88.0)
    assert events_of(tables, 1001, "temp") == [(time, known_at, 37.0)]
    assert events_of(tables, 1001, "fio2") == [(time, known_at, 50.0)]
    assert values_of(tables, 1001, "height") == [177.8]
    assert values_of(tables, 1002, "weight") == [90.718474]
    assert values_of(tables, 1001, "crp") == [89.0, 250.0]


def test_a_row_without_a_stay_is_matched_by_its_time_and_never_known_before_it(
    result: SourceResult,
):
    noon = at("2150-03-01 12:00")
    assert events_of(result.tables, 1001, "hr")[1] == (noon, noon, 90.0)


def test_a_laboratory_result_is_known_after_the_declared_delay(
    result: SourceResult, read_shared: Callable[..., SourceResult]
):
    creatinine = events_of(result.tables, 1001, "crea")
    assert creatinine == [(at("2150-03-01 09:00"), at("2150-03-01 11:00"), 1.4)]
    other = read_shared(lab_delay_hours=0.5)
    assert events_of(other.tables, 1001, "crea")[0][1] == at("2150-03-01 09:30")


def test_rows_between_two_stays_belong_to_the_later_one(result: SourceResult):
    assert not events_of(result.tables, 1002, "crea")
    assert values_of(result.tables, 1003, "crea") == [2.0]


def test_excluded_rows_are_counted_by_their_reason(result: SourceResult):
    excluded = result.excluded
    assert excluded["chartevents: charted in error"] == 1
    assert excluded["chartevents: implausible: sbp"] == 1
    assert excluded["chartevents: outside the stay"] == 1
    assert excluded["chartevents: no number"] == 1
    assert excluded["chartevents: items that the catalogue does not map"] == 1
    assert excluded["labevents: items that the catalogue does not map"] == 1
    assert excluded["labevents: blood gas that is not arterial"] == 1
    assert excluded["inputevents_mv: rewritten"] == 1
    assert excluded["charted with another item of the same variable"] == 2


def test_the_arterial_line_goes_before_the_cuff_and_arterial_before_venous_blood(
    result: SourceResult,
):
    assert values_of(result.tables, 1002, "sbp") == [111.0]
    assert values_of(result.tables, 1001, "po2") == [80.0]


@pytest.mark.parametrize(
    ("rule", "verbal", "total"),
    [("missing", [], []), ("as_charted", [1.0], [11.0]), ("normal", [], [15.0])],
)
def test_the_coma_score_of_an_intubated_patient_follows_the_declared_rule(
    read_shared: Callable[..., SourceResult], rule: str, verbal: list[float], total: list[float]
):
    tables = read_shared(intubated_verbal=rule).tables
    assert values_of(tables, 1001, "vgcs") == verbal
    assert values_of(tables, 1001, "gcs") == total
    assert values_of(tables, 1001, "egcs") == [4.0]


def test_urine_is_what_came_out_and_the_irrigant_what_went_in(result: SourceResult):
    time = at("2160-01-01 05:00")
    urine = events_of(result.tables, 1002, "urine")
    assert urine == [(time, at("2160-01-01 05:10"), 3200.0)]
    irrigant = events_of(result.tables, 1002, "bladder_irrigant")
    assert irrigant == [(time, at("2160-01-01 05:15"), 3000.0)]


def test_a_ventilation_has_events_while_it_lasts_and_at_its_end(result: SourceResult):
    events = events_of(result.tables, 1003, "vent")
    by_hour = [(time.hour, value) for time, _, value in events]
    assert by_hour == [(2, 1.0), (6, 1.0), (10, 1.0), (12, 0.0)]
    assert values_of(result.tables, 1001, "vent") == [1.0]
    assert values_of(result.tables, 1002, "vent") == [0.0]
