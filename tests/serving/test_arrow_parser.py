"""Bodies read at once are read as one by one, or not at all."""

from __future__ import annotations

from time import process_time

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from flowsheet.cohort.schema import TABLES
from flowsheet.prediction.arrow_parser import at_once
from flowsheet.prediction.limits import Limits
from flowsheet.prediction.request_batch import combine
from flowsheet.prediction.request_parser import read
from flowsheet.testing.tables import random_tables

LIMITS = Limits()
STAY = (
    b'{"stay_id": 1, "admitted_at": "2000-01-01T00:00:00", "discharged_at": "2000-01-02T00:00:00"}'
)
EVENT = b'{"stay_id": 1, "time": "2000-01-01T01:00:00", "known_at": "2000-01-01T01:00:00", "variable": "hr", "value": 9e1}'
GOOD = b'{"stays": [' + STAY + b'], "events": [' + EVENT + b"]}"
lawful = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def one_by_one(bodies):
    return combine([read(body, LIMITS) for body in bodies], LIMITS, 6.0)[0]


def assert_read_alike(bodies):
    quick, slow = at_once(bodies, LIMITS, 6.0), one_by_one(bodies)
    assert (quick.stay_ids, quick.first, quick.rows) == (slow.stay_ids, slow.first, slow.rows)
    for name in TABLES:
        assert_frame_equal(getattr(quick.tables, name), getattr(slow.tables, name))


@lawful
@given(
    wards=st.lists(
        random_tables(variables=("hr", "temp"), drug_names=("norepinephrine",)),
        min_size=1,
        max_size=4,
    ),
    seed=st.integers(0, 99),
)
def test_at_once_is_one_by_one(tell, wards, seed):
    wards = [ward for ward in map(tell.sound, wards) if ward.stays.height]
    if wards:
        assert_read_alike([tell.body(ward, seed + i) for i, ward in enumerate(wards)])


def test_layout_missing_tables_and_order_of_keys_do_not_matter():
    told = orjson.loads(GOOD)
    backwards = {
        "events": [dict(reversed(told["events"][0].items()))],
        "stays": told["stays"],
        "episodes": None,
    }
    only_stays = {"stays": told["stays"], "treatments": []}
    pretty = orjson.dumps(told, option=orjson.OPT_INDENT_2) + b"\n"
    assert_read_alike([pretty, orjson.dumps(backwards), orjson.dumps(only_stays), GOOD])


@pytest.mark.parametrize(
    "odd",
    [
        b"", b" ", b"{}", b"[]", b"null", GOOD + b"x", b" " + GOOD, GOOD[:-1], GOOD + GOOD, GOOD + b'{"stays":[]}',
        GOOD.replace(b"9e1", b"NaN"), GOOD.replace(b"9e1", b"-Infinity"), GOOD.replace(b"9e1", b'"90"'),
        GOOD.replace(b"9e1", b"true"), GOOD.replace(b"9e1", b"null"), GOOD.replace(b"9e1", b"-1"),
        GOOD.replace(b'"stay_id": 1', b'"stay_id": 1.0'), GOOD.replace(b'"stay_id": 1', b'"stay_id": null'),
        GOOD.replace(b'"hr"', b'"h\\u0072"'), GOOD.replace(b'"hr"', b'"\xff"'), GOOD.replace(b'"hr"', b'"\xc3\xa4"'),
        GOOD.replace(b'"hr"', b'"h\nr"'), GOOD.replace(b'"value"', b'"valeu"'), GOOD.replace(b"01-01T01", b"01-01 o1"),
        GOOD.replace(EVENT, b"null"), GOOD.replace(EVENT, b"{}"), GOOD.replace(EVENT, EVENT + b"," + EVENT),
        GOOD.replace(STAY, STAY + b"," + STAY), GOOD.replace(STAY, b""), GOOD.replace(b"stays", b"people"),
        GOOD.replace(b'"value": 9e1', b'"value": 9e1, "value": 80'), b"\xef\xbb\xbf" + GOOD,
    ],
)  # fmt: skip
def test_what_is_unusual_is_left_to_the_careful_reader(odd):
    assert at_once([GOOD, odd, GOOD], LIMITS, 6.0) is None


@pytest.mark.parametrize(
    "limits",
    [{"rows": 1}, {"stays": 1}, {"steps": 3}, {"steps_per_stay": 3}],
    ids=lambda limits: next(iter(limits)),
)
def test_what_is_too_much_is_left_to_the_careful_reader(limits):
    two = orjson.loads(GOOD)
    two["stays"].append({**two["stays"][0], "stay_id": 2})
    assert at_once([orjson.dumps(two)], Limits(), 6.0) is not None
    assert at_once([orjson.dumps(two)], Limits(**limits), 6.0) is None


def test_empty_records_by_the_million_are_left_to_the_careful_reader():
    began = process_time()
    for many in (b"{}," * 1_000_000, b"null," * 1_500_000, b'{"age":1},' * 200_000):
        assert at_once([b'{"stays": [' + many + b"{}]}"], LIMITS, 6.0) is None
    assert process_time() - began < 1


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([GOOD + GOOD], [b'{"stays": [', b"{}]}"]),  # one row too many, then one too few
        ([GOOD + GOOD], [b""]),
        ([GOOD + b'\n{"stays":[]}\n' + GOOD], [b"{", b"}"]),
        ([b'{"stays": ['], [b"]}", GOOD + GOOD]),
        ([b'{"stays": [{"unit": "'], [b'"}]}', GOOD + GOOD]),
    ],
)
def test_no_body_gets_into_anothers_place(scorer, ward, tell, before, after):
    mine = tell.body(tell.of_stays(ward, ward.stays["stay_id"][0]))
    (alone,) = scorer.score([mine])
    outcomes = scorer.score([*before, mine, *after])
    assert outcomes[len(before)].body == alone.body
    refused = outcomes[: len(before)] + outcomes[len(before) + 1 :]
    assert all(outcome.status == 400 for outcome in refused)
