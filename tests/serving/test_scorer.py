"""Served risks are the training code's, whatever else is scored, in any order of rows, and however
the stay continues."""

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
from tests.request_bodies import (
    decode_answer,
    encode_body,
    keep_valid_rows,
    select_stays,
    times_as_text,
)

few_examples = settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
def one_stay(ward):
    return select_stays(ward, ward.stays["stay_id"][0])


def score_one(scorer, tables: Tables, shuffle_seed: int | None = None) -> dict:
    (reply,) = scorer.score([encode_body(tables, shuffle_seed)])
    return decode_answer(reply)


def with_heart_rate(tables: Tables, value: float) -> Tables:
    """Every heart rate replaced by this one."""
    changed = pl.when(pl.col("variable") == "hr").then(value).otherwise("value")
    return replace(tables, events=tables.events.with_columns(value=changed))


def assert_predicts(answer: dict, model_package, tables: Tables) -> None:
    """The answer holds what the model package predicts for the tables."""
    expected = model_package.predict(tables)
    answered = {stay["stay_id"]: stay for stay in answer["stays"]}
    for stay_id in tables.stays["stay_id"]:
        rows, stay = expected.filter(pl.col("stay_id") == stay_id), answered[stay_id]
        assert stay["step"] == rows["step"].to_list()
        assert [datetime.fromisoformat(time) for time in stay["time"]] == rows["time"].to_list()
        np.testing.assert_allclose(stay["risk"], rows["risk"], atol=1e-6, rtol=0)


@few_examples
@given(
    tables=random_tables(variables=("hr", "temp"), drug_names=("norepinephrine",)),
    seed=st.integers(0, 99),
)
def test_rows_in_any_order_get_the_training_codes_risks(scorer, model_package, tables, seed):
    tables = keep_valid_rows(tables)
    if tables.stays.height:
        assert_predicts(score_one(scorer, tables, seed), model_package, tables)


def test_requests_scored_together_are_answered_as_if_alone(scorer, model_package, ward):
    ids = ward.stays["stay_id"].to_list()
    groups = [ids[:1], ids[1:4], ids[:2], ids[4:9], ids[:1]]  # some have the same stay
    parts = [select_stays(ward, *group) for group in groups]
    replies = scorer.score([encode_body(part, seed) for seed, part in enumerate(parts)])
    for part, reply in zip(parts, replies, strict=True):
        assert_predicts(decode_answer(reply), model_package, part)
    assert [reply.stays for reply in replies] == [1, 3, 2, 5, 1]


def test_one_stay_id_in_two_requests_means_two_patients(scorer, model_package, ward):
    first, second = (select_stays(ward, stay) for stay in ward.stays["stay_id"].head(2))
    same_id = pl.lit(first.stays["stay_id"][0])
    renamed = Tables(*(getattr(second, name).with_columns(stay_id=same_id) for name in TABLES))
    replies = scorer.score([encode_body(first), encode_body(renamed)])
    for part, reply in zip((first, renamed), replies, strict=True):
        assert_predicts(decode_answer(reply), model_package, part)


@few_examples
@given(data=st.data())
def test_later_events_do_not_change_earlier_steps(scorer, ward, data):
    stay_id = data.draw(st.sampled_from(ward.stays["stay_id"].to_list()))
    tables = select_stays(ward, stay_id)
    (before,) = score_one(scorer, tables)["stays"]
    cut = datetime.fromisoformat(data.draw(st.sampled_from(before["time"])))
    later = cut + timedelta(seconds=data.draw(st.integers(1, 36_000)))
    measured_later = {"time": later, "known_at": later, "variable": "hr", "value": 250.0}
    known_later = {
        "time": tables.stays["admitted_at"][0],
        "known_at": later,
        "variable": "temp",
        "value": 41.0,
    }
    added = pl.DataFrame(
        [{"stay_id": stay_id, **measured_later}, {"stay_id": stay_id, **known_later}],
        schema=tables.events.schema,
    )
    events = pl.concat([tables.events, added]).unique(
        ["stay_id", "time", "variable"], keep="first", maintain_order=True
    )
    (after,) = score_one(scorer, replace(tables, events=events))["stays"]
    steps = before["time"].index(cut.isoformat()) + 1
    assert after["risk"][:steps] == before["risk"][:steps]


def test_an_event_changes_the_steps_that_know_it(scorer, one_stay):
    (before,) = score_one(scorer, one_stay)["stays"]
    (after,) = score_one(scorer, with_heart_rate(one_stay, 250.0))["stays"]
    assert after["risk"] != before["risk"]


def test_columns_and_records_get_the_same_answer(scorer, ward):
    tables = select_stays(ward, *ward.stays["stay_id"].head(3))
    columns = {
        name: times_as_text(getattr(tables, name)).to_dict(as_series=False) for name in TABLES
    }
    by_records, by_columns = scorer.score([encode_body(tables), orjson.dumps(columns)])
    assert by_columns.body == by_records.body


def test_a_stay_that_has_not_ended_ends_with_its_latest_known_fact(scorer, model_package, one_stay):
    open_end = pl.lit(None, pl.Datetime("us"))
    open_stay = replace(one_stay, stays=one_stay.stays.with_columns(discharged_at=open_end))
    answer = score_one(scorer, open_stay)
    known = pl.concat(
        rows["known_at"] for rows in (one_stay.events, one_stay.treatments, one_stay.episodes)
    )
    ended = one_stay.stays.with_columns(discharged_at=pl.lit(known.max()))
    assert_predicts(answer, model_package, replace(one_stay, stays=ended))


def test_a_stay_without_facts_is_answered(scorer):
    stay = {"stay_id": 5, "admitted_at": "2000-01-01T00:00:00"}
    answer = decode_answer(scorer.score([orjson.dumps({"stays": [stay]})])[0])
    assert answer["stays"] == [{"stay_id": 5, "step": [], "time": [], "risk": []}]
    stay["discharged_at"] = "2000-01-01T13:00"
    (answered,) = decode_answer(scorer.score([orjson.dumps({"stays": [stay]})])[0])["stays"]
    assert answered["step"] == [1, 2, 3]


def test_a_wrong_request_does_not_affect_the_others(scorer, model_package, one_stay):
    good = encode_body(one_stay)
    implausible = encode_body(with_heart_rate(one_stay, -1000.0))
    without_time = orjson.dumps({"stays": [{"stay_id": 1, "admitted_at": "yesterday"}]})
    replies = scorer.score([implausible, good, b"{", without_time, good])
    assert [getattr(reply, "status", 200) for reply in replies] == [422, 200, 400, 422, 200]
    for i in (1, 4):
        assert_predicts(decode_answer(replies[i]), model_package, one_stay)


def test_an_unexpected_failure_is_an_internal_error_of_that_request_alone(
    scorer, model_package, one_stay, monkeypatch
):
    predict = type(model_package).predict

    def fail_on_one_value(self, tables):
        if 66.6 in tables.events["value"].to_list():
            raise BaseException("a panic")
        return predict(self, tables)

    monkeypatch.setattr(type(model_package), "predict", fail_on_one_value)
    failing = encode_body(with_heart_rate(one_stay, 66.6))
    replies = scorer.score([failing, encode_body(one_stay)])
    assert [getattr(reply, "status", 200) for reply in replies] == [500, 200]
    assert b"panic" not in replies[0].body


def test_the_answer_names_the_model(scorer, one_stay):
    model = score_one(scorer, one_stay)["model"]
    assert model == {"name": "ward-lstm", "version": 3, "alias": "champion"}


@pytest.mark.parametrize(
    "text",
    ["2000-01-01T09:30:00", "2000-01-01 09:30:00", "2000-01-01T09:30", "2000-01-01T09:30:00.000"],
)
def test_a_time_may_be_written_in_these_formats_whatever_others_use(scorer, text):
    stay = {
        "stay_id": 1,
        "admitted_at": "2000-01-01T00:00:00",
        "discharged_at": "2000-01-02T00:00:00",
    }

    def encode(time):
        event = {"stay_id": 1, "time": time, "known_at": time, "variable": "hr", "value": 90}
        return orjson.dumps({"stays": [stay], "events": [event]})

    usual, other = scorer.score([encode("2000-01-01T09:30:00"), encode(text)])
    assert other.body == usual.body
