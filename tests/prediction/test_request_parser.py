from __future__ import annotations

import pytest
from polars.testing import assert_frame_equal

from flowsheet.cohort.schema import TABLES
from flowsheet.prediction.limits import Limits
from flowsheet.prediction.request_parser import parse_requests
from tests.model_packages import ward_tables
from tests.request_bodies import encode_body, select_stays, valid_ward

STAY = (
    b'{"stay_id": 1, "admitted_at": "2000-01-01T00:00:00", "discharged_at": "2000-01-02T00:00:00"}'
)
GOOD = b'{"stays": [' + STAY + b"]}"


@pytest.fixture(scope="module")
def body() -> bytes:
    ward = valid_ward(ward_tables())
    return encode_body(select_stays(ward, ward.stays["stay_id"][0]))


def parse(bodies):
    return parse_requests(bodies, Limits(), 6.0)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([GOOD + GOOD], [b'{"stays": [', b"{}]}"]),  # one object too many, then one too few
        ([GOOD + GOOD], [b""]),
        ([GOOD + b'\n{"stays":[]}\n' + GOOD], [b"{", b"}"]),
        ([b'{"stays": ['], [b"]}", GOOD + GOOD]),
        ([b'{"stays": [{"unit": "'], [b'"}]}', GOOD + GOOD]),
    ],
)
def test_a_malformed_body_does_not_run_into_its_neighbours(body, before, after):
    alone, _ = parse([body])
    batch, rejected = parse([*before, body, *after])
    for name in TABLES:
        assert_frame_equal(getattr(batch.tables, name), getattr(alone.tables, name))
    assert batch.stay_ids == alone.stay_ids
    wrong = set(range(len(before) + 1 + len(after))) - {len(before)}
    assert rejected.keys() == wrong
    assert all(rejection.status == 400 for rejection in rejected.values())


def test_wrong_bodies_are_rejected_by_position_and_the_others_combined():
    unknown_drug = b'{"stays": [' + STAY + b'], "treatments": [{"stay_id": 1, "drug": "x",'
    unknown_drug += b'"start": "2000-01-01T01:00", "end": "2000-01-01T02:00", '
    unknown_drug += b'"known_at": "2000-01-01T02:00"}]}'
    batch, rejected = parse([b"{", GOOD, unknown_drug, GOOD])
    assert batch.stay_ids == [[1], [1]]
    assert {position: rejection.status for position, rejection in rejected.items()} == {
        0: 400,
        2: 422,
    }


def with_episode_of(response: bytes) -> bytes:
    times = b'"onset": "2000-01-01T05:00", "known_at": "2000-01-01T06:00"'
    episode = b'{"stay_id": 1, "response": ' + response + b", " + times + b"}"
    return b'{"stays": [' + STAY + b'], "episodes": [' + episode + b"]}"


def test_a_misspelt_response_is_rejected_by_name_and_not_ignored():
    bodies = [with_episode_of(name) for name in (b'"sepsiss"', b'"aki"', b'"own"', b"null")]
    batch, rejected = parse_requests(bodies, Limits(), 6.0, "own")
    assert batch.tables.episodes["response"].to_list() == ["aki", "own", None]
    assert list(rejected) == [0]
    assert rejected[0].status == 422
    (problem,) = rejected[0].problems
    assert (problem.table, problem.column, problem.rule) == (
        "episodes",
        "response",
        "known_response",
    )
    assert 'did you mean "sepsis"?' in problem.message


def test_without_a_valid_body_there_is_no_batch():
    batch, rejected = parse([b"{", b""])
    assert batch is None
    assert {position: rejection.kind for position, rejection in rejected.items()} == {
        0: "not_json",
        1: "empty",
    }
