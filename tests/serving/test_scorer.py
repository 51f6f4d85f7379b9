"""What is served is what the training code says, whoever else asks, in any order, and whatever comes later."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import orjson
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowsheet.cohort.schema import TABLES, Tables
from flowsheet.testing.tables import random_tables

lawful = settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def pulse(value: float) -> pl.Expr:
    """Every heart rate is this one."""
    return pl.when(pl.col("variable") == "hr").then(value).otherwise("value").alias("value")


def told(answer: dict) -> dict[int, dict]:
    return {stay["stay_id"]: stay for stay in answer["stays"]}


def assert_says(answer: dict, model_package, tables: Tables) -> None:
    expected = model_package.predict(tables)
    for stay in tables.stays["stay_id"]:
        mine, got = expected.filter(pl.col("stay_id") == stay), told(answer)[stay]
        assert got["step"] == mine["step"].to_list()
        assert [datetime.fromisoformat(t) for t in got["time"]] == mine["time"].to_list()
        np.testing.assert_allclose(got["risk"], mine["risk"], atol=1e-6, rtol=0)


@lawful
@given(
    tables=random_tables(variables=("hr", "temp"), drug_names=("norepinephrine",)),
    seed=st.integers(0, 99),
)
def test_any_order_of_rows_gets_what_the_training_code_says(
    scorer, model_package, tell, tables, seed
):
    tables = tell.sound(tables)
    if tables.stays.height == 0:
        return
    (outcome,) = scorer.score([tell.body(tables, seed)])
    assert_says(tell.answered(outcome), model_package, tables)


def test_requests_scored_together_are_answered_as_if_alone(scorer, model_package, ward, tell):
    ids = ward.stays["stay_id"].to_list()
    groups = [ids[:1], ids[1:4], ids[:2], ids[4:9], ids[:1]]  # some ask for the same stay
    parts = [tell.of_stays(ward, *group) for group in groups]
    outcomes = scorer.score([tell.body(part, seed) for seed, part in enumerate(parts)])
    for part, outcome in zip(parts, outcomes, strict=True):
        assert_says(tell.answered(outcome), model_package, part)
    assert [outcome.stays for outcome in outcomes] == [1, 3, 2, 5, 1]


def test_one_id_in_two_requests_is_two_patients(scorer, model_package, ward, tell):
    one, other = (tell.of_stays(ward, stay) for stay in ward.stays["stay_id"].head(2))
    renamed = Tables(
        *(getattr(other, n).with_columns(stay_id=one.stays["stay_id"][0]) for n in TABLES)
    )
    outcomes = scorer.score([tell.body(one), tell.body(renamed)])
    for part, outcome in zip((one, renamed), outcomes, strict=True):
        assert_says(tell.answered(outcome), model_package, part)


@lawful
@given(data=st.data())
def test_later_events_do_not_change_earlier_steps(scorer, ward, tell, data):
    stay = data.draw(st.sampled_from(ward.stays["stay_id"].to_list()))
    mine = tell.of_stays(ward, stay)
    (before,) = tell.answered(scorer.score([tell.body(mine)])[0])["stays"]
    cut = datetime.fromisoformat(data.draw(st.sampled_from(before["time"])))
    later = cut + timedelta(seconds=data.draw(st.integers(1, 36_000)))
    added = {"stay_id": stay, "time": later, "known_at": later, "variable": "hr", "value": 250.0}
    known = {
        "stay_id": stay,
        "time": mine.stays["admitted_at"][0],
        "known_at": later,
        "variable": "temp",
        "value": 41.0,
    }
    rows = pl.DataFrame([added, known], schema=mine.events.schema)
    events = pl.concat([mine.events, rows]).unique(
        ["stay_id", "time", "variable"], keep="first", maintain_order=True
    )
    changed = replace(mine, events=events)
    (after,) = tell.answered(scorer.score([tell.body(changed)])[0])["stays"]
    upto = before["time"].index(cut.isoformat()) + 1
    assert after["risk"][:upto] == before["risk"][:upto]


def test_an_event_changes_the_steps_that_know_it(scorer, ward, tell):
    mine = tell.of_stays(ward, ward.stays["stay_id"][0])
    (before,) = tell.answered(scorer.score([tell.body(mine)])[0])["stays"]
    racing = replace(mine, events=mine.events.with_columns(pulse(250.0)))
    (after,) = tell.answered(scorer.score([tell.body(racing)])[0])["stays"]
    assert after["risk"] != before["risk"]


def test_columns_say_the_same_as_records(scorer, ward, tell):
    mine = tell.of_stays(ward, *ward.stays["stay_id"].head(3))
    columns = orjson.dumps(
        {name: tell.text(getattr(mine, name)).to_dict(as_series=False) for name in TABLES}
    )
    by_records, by_columns = scorer.score([tell.body(mine), columns])
    assert by_columns.body == by_records.body


def test_a_stay_that_goes_on_ends_with_what_is_known(scorer, model_package, ward, tell):
    mine = tell.of_stays(ward, ward.stays["stay_id"][0])
    latest = mine.events["known_at"].max()
    ongoing = replace(
        mine, stays=mine.stays.with_columns(discharged_at=pl.lit(None, pl.Datetime("us")))
    )
    answer = tell.answered(scorer.score([tell.body(ongoing)])[0])
    ended = max(latest, *(f["known_at"].max() or latest for f in (mine.treatments, mine.episodes)))
    assert_says(
        answer,
        model_package,
        replace(mine, stays=mine.stays.with_columns(discharged_at=pl.lit(ended))),
    )


def test_a_stay_without_facts_is_answered(scorer, tell):
    stay = {"stay_id": 5, "admitted_at": "2000-01-01T00:00:00"}
    answer = tell.answered(scorer.score([orjson.dumps({"stays": [stay]})])[0])
    assert answer["stays"] == [{"stay_id": 5, "step": [], "time": [], "risk": []}]
    stay["discharged_at"] = "2000-01-01T13:00"
    (one,) = tell.answered(scorer.score([orjson.dumps({"stays": [stay]})])[0])["stays"]
    assert one["step"] == [1, 2, 3]


def test_one_bad_request_does_not_hurt_the_others(scorer, model_package, ward, tell):
    mine = tell.of_stays(ward, ward.stays["stay_id"][0])
    wrong = replace(mine, events=mine.events.with_columns(value=pl.lit(-1000.0)))
    late = orjson.dumps({"stays": [{"stay_id": 1, "admitted_at": "yesterday"}]})
    outcomes = scorer.score([tell.body(wrong), tell.body(mine), b"{", late, tell.body(mine)])
    assert [getattr(o, "status", 200) for o in outcomes] == [422, 200, 400, 422, 200]
    for good in (1, 4):
        assert_says(tell.answered(outcomes[good]), model_package, mine)


def test_what_fails_unforeseen_is_an_internal_error_of_that_request_alone(
    scorer, ward, tell, monkeypatch
):
    mine = tell.of_stays(ward, ward.stays["stay_id"][0])
    predict = type(scorer._current().model_package).predict

    def fragile(self, tables):
        if 66.6 in tables.events["value"].to_list():
            raise BaseException("a panic")
        return predict(self, tables)

    monkeypatch.setattr(type(scorer._current().model_package), "predict", fragile)
    bad = replace(mine, events=mine.events.with_columns(pulse(66.6)))
    outcomes = scorer.score([tell.body(bad), tell.body(mine)])
    assert [getattr(o, "status", 200) for o in outcomes] == [500, 200]
    assert b"panic" not in outcomes[0].body


def test_the_answer_names_the_model(scorer, ward, tell):
    answer = tell.answered(
        scorer.score([tell.body(tell.of_stays(ward, ward.stays["stay_id"][0]))])[0]
    )
    assert answer["model"] == {"name": "ward-lstm", "version": 3, "alias": "champion"}


@pytest.mark.parametrize(
    "form",
    ["2000-01-01T09:30:00", "2000-01-01 09:30:00", "2000-01-01T09:30", "2000-01-01T09:30:00.000"],
)
def test_times_may_be_written_in_these_ways_whatever_others_write(scorer, tell, form):
    def ask(time):
        stay = {
            "stay_id": 1,
            "admitted_at": "2000-01-01T00:00:00",
            "discharged_at": "2000-01-02T00:00:00",
        }
        event = {"stay_id": 1, "time": time, "known_at": time, "variable": "hr", "value": 90}
        return orjson.dumps({"stays": [stay], "events": [event]})

    usual, other = scorer.score([ask("2000-01-01T09:30:00"), ask(form)])
    assert other.body == usual.body
