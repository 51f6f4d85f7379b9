"""Charted values become events: their unit, their time, and what depends on several rows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from flowsheet.cohort import catalogue
from flowsheet.cohort.schema import Tables
from tests.cohort.mimic3_folder import (
    RawTables,
    SourceResult,
    add_rows,
    raw_tables,
    read_folder,
    write_tables,
)


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


def test_a_laboratory_result_is_known_after_the_delay_of_its_item(
    result: SourceResult, read_shared: Callable[..., SourceResult]
):
    sampled = at("2150-03-01 09:00")
    ((time, known_at, value),) = events_of(result.tables, 1001, "crea")
    items = catalogue.mimic3_items()
    (hours,) = items.filter(table="labevents", name="crea")["delay_hours"]
    assert (time, known_at, value) == (sampled, sampled + timedelta(hours=hours), 1.4)
    other = read_shared(lab_delay_hours=0.5)
    assert events_of(other.tables, 1001, "crea")[0][1] == at("2150-03-01 09:30")


@pytest.fixture(scope="module")
def copied_tables() -> RawTables:
    """Creatinine that is charted once more, with the same and with another value."""
    tables = raw_tables()
    ids = {"subject_id": 11, "hadm_id": 111}
    for hour, value in ((14, 1.5), (16, 1.6), (18, 1.7)):
        time = f"2150-03-01 {hour}:00:00"
        row = {"itemid": 50912, "charttime": time, "value": value, "valuenum": value}
        add_rows(tables, "labevents", ids | row)
    for hour, value, stored in ((14, 1.5, "20:40"), (16, 2.6, "16:20"), (18, 1.7, None)):
        row = {"itemid": 791, "charttime": f"2150-03-01 {hour}:00:00", "valuenum": value}
        storage = {"storetime": f"2150-03-01 {stored}:00"} if stored else {}
        add_rows(tables, "chartevents", ids | {"icustay_id": 1001} | row | storage)
    return tables


@pytest.fixture(scope="module")
def copied(copied_tables: RawTables, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tables(tmp_path_factory.mktemp("copied") / "tables", copied_tables)


def test_a_copied_result_is_known_when_the_copy_was_stored(copied: Path):
    events = events_of(read_folder(copied).tables, 1001, "crea")
    delay = events[0][1] - events[0][0]
    assert delay > timedelta(hours=3)
    assert [(known_at - time, value) for time, known_at, value in events[1:]] == [
        (timedelta(hours=6, minutes=40), 1.5),
        (delay, 1.6),  # the copy has another value
        (delay, 1.7),  # nobody knows when the copy was stored
    ]


def test_an_event_does_not_depend_on_what_is_stored_after_it_was_known(
    copied_tables: RawTables, copied: Path, tmp_path: Path
):
    until = at("2150-03-01 17:00")
    stored = pl.col("storetime").str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False)
    tables = dict(copied_tables)
    tables["chartevents"] = tables["chartevents"].filter(stored.is_null() | (stored <= until))
    all_events = read_folder(copied).tables.events
    fewer = read_folder(write_tables(tmp_path / "tables", tables)).tables.events
    assert fewer.height < all_events.height
    is_known = pl.col("known_at") <= until
    is_early = pl.col("variable") != "crea"
    assert fewer.filter(is_known, is_early).equals(all_events.filter(is_known, is_early))
    # Without its copy, a result has the delay of its item: it is known later than it was.
    early = all_events.filter(is_known, ~is_early)
    assert early.join(fewer, on=["stay_id", "time", "variable", "value"]).height == early.height


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
    assert excluded["blood gas that is not arterial"] == 1
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
