"""The Adult Sepsis Event of records that are checked by hand; the stay begins at 21:40 of day 0."""

from __future__ import annotations

from copy import deepcopy
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from flowsheet.cohort.schema import EPISODES
from flowsheet.cohort.sepsis3 import Sepsis3Options
from tests.cohort.sepsis3.records import Record, at, label_records, midnight
from tests.cohort.sepsis3.strategies import VALUES
from tests.cohort.sepsis3.test_no_look_ahead import TABLES, add_future, change_future, known_at

ASE = Sepsis3Options(definition="adult_sepsis_event")
NO_LACTATE = Sepsis3Options(definition="adult_sepsis_event", ase_lactate=False)
CULTURE = 100.0


def infected(days=(0, 1, 2, 3), hours=400.0, drug="vancomycin", died=False, route=None):
    """A blood culture at hour 100, and a dose an hour later on each of these days after it."""
    record = Record(hours, died=died).take_culture(CULTURE)
    for day in days:
        record.give(drug, CULTURE + 1 + 24 * day, route=route)
    return record


def in_shock(record, start=CULTURE + 2):
    return record.infuse("norepinephrine", start, start + 5, 0.1)


def episodes(record, options=ASE):
    return label_records([record], options).episodes


def onsets(record, options=ASE):
    return episodes(record, options)["onset"].to_list()


CRITERIA = {
    "vasopressor": in_shock,
    "ventilation": lambda r: r.chart("vent", 102, 1).chart("vent", 110, 1),
    "creatinine": lambda r: r.chart("crea", 90, 1.0).chart("crea", 102, 2.0),
    "bilirubin": lambda r: r.chart("bili", 90, 1.0).chart("bili", 102, 2.0),
    "platelets": lambda r: r.chart("plt", 90, 190).chart("plt", 102, 95),
    "lactate": lambda r: r.chart("lact", 102, 2.0),
}
NO_CRITERIA = {
    "dobutamine": lambda r: r.infuse("dobutamine", 102, 110, 5.0),
    "a bolus": lambda r: r.infuse("norepinephrine", 102, 102, 0.1),
    "vasopressor that ran the day before": lambda r: in_shock(in_shock(r, 40), 56),
    "vasopressor that still runs": lambda r: r.infuse("norepinephrine", 30, 110, 0.1),
    "vasopressor three days after": lambda r: in_shock(r, 172),
    "old ventilation": lambda r: r.chart_every("vent", 12, 2, 200, 1),
    "creatinine less than doubled": lambda r: r.chart("crea", 90, 1.0).chart("crea", 102, 1.9),
    "creatinine in dialysis": (
        lambda r: r.chart("rrt", 5, 1).chart("crea", 90, 1.0).chart("crea", 102, 2.0)
    ),
    "bilirubin below 2": lambda r: r.chart("bili", 90, 0.5).chart("bili", 102, 1.9),
    "bilirubin that was high": lambda r: r.chart("bili", 90, 3.0).chart("bili", 102, 5.0),
    "platelets that were low": lambda r: r.chart("plt", 90, 99).chart("plt", 102, 20),
    "platelets not halved": lambda r: r.chart("plt", 90, 150).chart("plt", 102, 80),
    "platelets still 100": lambda r: r.chart("plt", 90, 300).chart("plt", 102, 100),
    "lactate below 2": lambda r: r.chart("lact", 102, 1.9),
}


@pytest.mark.parametrize("criterion", CRITERIA)
def test_each_organ_dysfunction_makes_an_event(criterion):
    assert onsets(CRITERIA[criterion](infected())) == [at(CULTURE)]


@pytest.mark.parametrize("fact", NO_CRITERIA)
def test_what_is_no_organ_dysfunction(fact):
    assert onsets(NO_CRITERIA[fact](infected())) == []


def test_lactate_is_optional():
    assert onsets(CRITERIA["lactate"](infected()), NO_LACTATE) == []
    assert onsets(in_shock(infected()), NO_LACTATE) == [at(CULTURE)]


def test_neither_infection_nor_organ_dysfunction_alone_is_an_event():
    assert onsets(infected()) == []
    assert onsets(in_shock(Record(400))) == []


def test_onset_is_the_earliest_of_the_criteria():
    assert onsets(in_shock(infected(), start=80)) == [at(80)]


def test_known_with_the_fourth_day():
    known = episodes(in_shock(infected()))["known_at"].to_list()
    assert known == [at(CULTURE + 1 + 72)]


def test_three_days_are_not_enough():
    assert onsets(in_shock(infected(days=(0, 1, 2)))) == []
    assert onsets(in_shock(infected(days=(0, 1, 2, 5)))) == []


def test_death_replaces_the_days_that_are_missing():
    record = in_shock(infected(days=(0, 1, 2), hours=CULTURE + 75, died=True))
    assert episodes(record)["known_at"].to_list() == [at(CULTURE + 75)]
    day_before = in_shock(infected(days=(0, 1), hours=CULTURE + 50, died=True))
    assert onsets(day_before) == [at(CULTURE)]
    two_days_before = in_shock(infected(days=(0,), hours=CULTURE + 50, died=True))
    assert onsets(two_days_before) == []
    discharged = in_shock(infected(days=(0, 1, 2), hours=CULTURE + 75))
    assert onsets(discharged) == []


def test_a_day_between_doses_of_one_drug_counts():
    assert onsets(in_shock(infected(days=(0, 1, 3)))) == [at(CULTURE)]
    assert onsets(in_shock(infected(days=(0, 2, 4)))) == [at(CULTURE)]
    other = infected(days=(0, 1)).give("meropenem", CULTURE + 1 + 72)
    assert onsets(in_shock(other)) == []


def test_days_of_other_new_drugs_count():
    record = infected(days=(0, 1)).give("meropenem", CULTURE + 49).give("cefepime", CULTURE + 73)
    assert onsets(in_shock(record)) == [at(CULTURE)]


def test_a_drug_that_was_given_before_is_not_new():
    assert onsets(in_shock(infected(days=range(-4, 5)))) == []
    old = infected(days=range(-4, 5)).give("meropenem", CULTURE + 1)
    assert onsets(in_shock(old)) == []  # one day of a new drug, and the old one
    assert onsets(in_shock(infected(days=(-4, 0, 1, 2, 3)))) == [at(CULTURE)]
    assert onsets(in_shock(infected(days=(-3, 0, 1, 2, 3)))) == [at(CULTURE)]


def test_the_first_day_is_near_the_culture():
    assert onsets(in_shock(infected(days=(2, 3, 4, 5)))) == [at(CULTURE)]
    assert onsets(in_shock(infected(days=(3, 4, 5, 6)))) == []
    assert onsets(in_shock(infected(days=(-2, -1, 0, 1)))) == [at(CULTURE + 1 - 48)]


def test_a_new_drug_by_vein_is_needed():
    assert onsets(in_shock(infected(route="enteral"))) == []
    with_vein = infected(route="enteral").give("meropenem", CULTURE + 25, route="intravenous")
    assert onsets(in_shock(with_vein)) == [at(CULTURE)]
    assert onsets(in_shock(infected(route="eye"))) == []


def test_antifungals_count_and_other_specimens_do_not():
    assert onsets(in_shock(infected(drug="fluconazole"))) == [at(CULTURE)]
    urine = infected()
    urine.cultures[0]["specimen"] = "URINE"
    assert onsets(in_shock(urine)) == []
    urine.cultures[0]["specimen"] = "Blood Culture, Routine"
    assert onsets(in_shock(urine)) == [at(CULTURE)]


def test_days_of_orders_are_known_when_they_are_over():
    record = in_shock(Record(400).take_culture(CULTURE).order("meropenem", CULTURE, days=4))
    found = episodes(record)
    assert found["onset"].to_list() == [midnight(CULTURE)]
    assert found["known_at"].to_list() == [midnight(CULTURE + 96)]


def test_hospital_onset_compares_with_values_near_the_culture():
    record = infected().chart("crea", 10, 1.0).chart("crea", 99, 2.0)
    assert onsets(record) == []
    record.stay["hospital_admitted_at"] = at(-300)
    assert onsets(record.chart("crea", 104, 1.0)) == [at(99)]


def test_present_on_admission_and_end():
    record = Record(400).take_culture(-30).chart("lact", 1, 4)
    for hour in (-29, -5, 19, 43):
        record.give("meropenem", hour)
    found = episodes(record)
    assert found.schema == EPISODES
    assert found.row(0) == (1, "sepsis", at(0), None, at(43), True)
    assert not episodes(in_shock(infected()))["present_on_admission"].item()
    fixed = Sepsis3Options(definition="adult_sepsis_event", end="fixed", end_days=2)
    assert episodes(in_shock(infected()), fixed)["end"].to_list() == [at(CULTURE + 48)]


def test_options_that_it_does_not_use_are_refused():
    for unused in ({"points": 3}, {"convention": "ricu"}, {"end": "organs"}):
        with pytest.raises(ValidationError, match="does not use"):
            Sepsis3Options(definition="adult_sepsis_event", **unused)
    with pytest.raises(ValidationError, match="ase_lactate"):
        Sepsis3Options(ase_lactate=False)
    assert Sepsis3Options.model_validate(ASE.model_dump()) == ASE


late = st.sampled_from([0.0, 0.0, 2.0, 30.0, 60.0])
hours = st.integers(-30, 150)


@st.composite
def likely_events(draw, stay_id=1):
    """Records with most of the facts of an event, known in any order."""
    record = Record(150, stay_id, died=draw(st.booleans()))
    for day in draw(st.lists(st.integers(-1, 6), min_size=3, max_size=9)):
        drug = draw(st.sampled_from(["vancomycin", "vancomycin", "meropenem"]))
        record.give(drug, 24 * day + draw(st.integers(0, 23)), delay=draw(late))
    if draw(st.booleans()):
        record.order("cefepime", draw(hours), draw(st.integers(1, 4)))
    for _ in range(draw(st.integers(1, 3))):
        record.take_culture(draw(hours), draw(late), date_only=draw(st.booleans()))
    for variable in ("crea", "plt", "bili", "vent", "rrt"):
        for time in sorted(draw(st.sets(hours, max_size=4))):
            record.chart(variable, time, draw(st.sampled_from(VALUES[variable])), draw(late))
    for _ in range(draw(st.integers(0, 2))):
        start = draw(hours)
        end = start + draw(st.sampled_from([3, 40]))
        record.infuse("norepinephrine", start, end, 0.1, draw(late))
    return record


def known_onsets(record, now):
    found = episodes(record)
    return found.filter(found["known_at"] <= now).rows()


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_later_facts_change_nothing_that_is_known_now(data):
    record = data.draw(likely_events())
    facts = [fact for table in TABLES for fact in getattr(record, table)]
    now = data.draw(st.sampled_from(sorted({known_at(fact) for fact in facts})))
    now += data.draw(st.sampled_from([-1, 60 * 24])) * timedelta(minutes=1)
    other = deepcopy(record)
    for table in TABLES:
        setattr(other, table, change_future(data.draw, getattr(other, table), now))
    add_future(data.draw, other, now)
    assert known_onsets(record, now) == known_onsets(other, now)


@settings(deadline=None, max_examples=10)
@given(likely_events(), likely_events(stay_id=2))
def test_no_stay_changes_the_event_of_another(record, second):
    together = label_records([second, record], ASE)
    for n, alone in ((1, record), (2, second)):
        labels = label_records([alone], ASE)
        for table in ("suspicions", "episodes"):
            assert getattr(together, table).filter(stay_id=n).equals(getattr(labels, table))


def test_without_stays_there_are_no_events():
    assert label_records([], ASE).episodes.is_empty()
