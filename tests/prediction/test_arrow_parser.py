"""The fast path parses bodies as the parser of single bodies does, or leaves them to it."""

from __future__ import annotations

from time import process_time

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from flowsheet.cohort.schema import TABLES
from flowsheet.prediction.arrow_parser import parse_batch
from flowsheet.prediction.json_parser import parse_json
from flowsheet.prediction.limits import Limits
from flowsheet.prediction.request_batch import combine_requests
from flowsheet.testing.tables import random_tables
from tests.request_bodies import encode_body, keep_valid_rows

LIMITS = Limits()
STAY = (
    b'{"stay_id": 1, "admitted_at": "2000-01-01T00:00:00", "discharged_at": "2000-01-02T00:00:00"}'
)
EVENT = (
    b'{"stay_id": 1, "time": "2000-01-01T01:00:00", "known_at": "2000-01-01T01:00:00",'
    b' "variable": "hr", "value": 9e1}'
)
GOOD = b'{"stays": [' + STAY + b'], "events": [' + EVENT + b"]}"
few_examples = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


def parse_one_by_one(bodies):
    requests = [parse_json(body, LIMITS) for body in bodies]
    return combine_requests(requests, LIMITS, 6.0)[0]


def assert_same_batch(bodies):
    fast, slow = parse_batch(bodies, LIMITS, 6.0), parse_one_by_one(bodies)
    assert fast.stay_ids == slow.stay_ids
    assert fast.first_stays == slow.first_stays
    assert fast.row_counts == slow.row_counts
    for name in TABLES:
        assert_frame_equal(getattr(fast.tables, name), getattr(slow.tables, name))


@few_examples
@given(
    wards=st.lists(
        random_tables(variables=("hr", "temp"), drug_names=("norepinephrine",)),
        min_size=1,
        max_size=4,
    ),
    seed=st.integers(0, 99),
)
def test_bodies_parsed_in_one_pass_are_parsed_as_one_by_one(wards, seed):
    wards = [ward for ward in map(keep_valid_rows, wards) if ward.stays.height]
    if wards:
        assert_same_batch([encode_body(ward, seed + i) for i, ward in enumerate(wards)])


def test_layout_missing_tables_and_order_of_keys_do_not_matter():
    request = orjson.loads(GOOD)
    reordered = {
        "events": [dict(reversed(request["events"][0].items()))],
        "stays": request["stays"],
        "episodes": None,
    }
    only_stays = {"stays": request["stays"], "treatments": []}
    indented = orjson.dumps(request, option=orjson.OPT_INDENT_2) + b"\n"
    assert_same_batch([indented, orjson.dumps(reordered), orjson.dumps(only_stays), GOOD])


def replace_value(text: bytes) -> bytes:
    return GOOD.replace(b"9e1", text)


def replace_stay_id(text: bytes) -> bytes:
    return GOOD.replace(b'"stay_id": 1', b'"stay_id": ' + text)


def replace_variable(text: bytes) -> bytes:
    return GOOD.replace(b'"hr"', b'"' + text + b'"')


@pytest.mark.parametrize(
    "unusual",
    [
        *(b"", b" ", b"{}", b"[]", b"null"),
        *(GOOD + b"x", b" " + GOOD, GOOD[:-1], GOOD + GOOD, GOOD + b'{"stays":[]}'),
        *map(replace_value, (b"NaN", b"-Infinity", b'"90"', b"true", b"null", b"-1")),
        *map(replace_stay_id, (b"1.0", b"null")),
        *map(replace_variable, (b"h\\u0072", b"\xff", b"\xc3\xa4", b"h\nr")),
        GOOD.replace(b'"value"', b'"valeu"'),
        GOOD.replace(b"01-01T01", b"01-01 o1"),
        *(GOOD.replace(EVENT, rows) for rows in (b"null", b"{}", EVENT + b"," + EVENT)),
        *(GOOD.replace(STAY, rows) for rows in (STAY + b"," + STAY, b"")),
        GOOD.replace(b"stays", b"people"),
        GOOD.replace(b'"value": 9e1', b'"value": 9e1, "value": 80'),
        b"\xef\xbb\xbf" + GOOD,
    ],
)
def test_unusual_bodies_are_left_to_the_other_parser(unusual):
    assert parse_batch([GOOD, unusual, GOOD], LIMITS, 6.0) is None


@pytest.mark.parametrize("limit", ["rows", "stays", "steps", "steps_per_stay"])
def test_bodies_over_a_limit_are_left_to_the_other_parser(limit):
    two_stays = orjson.loads(GOOD)
    two_stays["stays"].append({**two_stays["stays"][0], "stay_id": 2})
    limits = Limits(**{limit: 3 if "steps" in limit else 1})
    assert parse_batch([orjson.dumps(two_stays)], Limits(), 6.0) is not None
    assert parse_batch([orjson.dumps(two_stays)], limits, 6.0) is None


def test_a_million_empty_records_are_left_to_the_other_parser_at_once():
    start = process_time()
    for records in (b"{}," * 1_000_000, b"null," * 1_500_000, b'{"age":1},' * 200_000):
        assert parse_batch([b'{"stays": [' + records + b"{}]}"], LIMITS, 6.0) is None
    assert process_time() - start < 1
