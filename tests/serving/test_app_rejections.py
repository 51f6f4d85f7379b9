"""Two thousand malformed requests of forty kinds are rejected with the reason, none with 500."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
import orjson
import pytest

from flowsheet.serving.app import make_app
from tests.request_bodies import decode_answer

JSON = {"content-type": "application/json"}
Request = dict
Random = random.Random
Corruption = Callable[[Request, Random], Request]


def valid_request(rng: Random) -> Request:
    stay_id = rng.randrange(1, 10**6)
    start = f"2000-01-{rng.randrange(1, 20):02d}T08:00:00"
    stay = {
        "stay_id": stay_id,
        "admitted_at": start,
        "discharged_at": "2000-01-25T00:00:00",
        "age": 50.5,
    }
    events = [
        {
            "stay_id": stay_id,
            "time": f"2000-01-20T{hour:02d}:00:00",
            "known_at": "2000-01-20T23:00:00",
            "variable": "hr",
            "value": 80 + hour,
        }
        for hour in range(rng.randrange(2, 20))
    ]
    treatment = {
        "stay_id": stay_id,
        "drug": "norepinephrine",
        "start": start,
        "end": "2000-01-21T00:00:00",
        "known_at": start,
        "dose": 2.0,
        "unit": "mcg/kg",
    }
    episode = {
        "stay_id": stay_id,
        "onset": "2000-01-21T00:00:00",
        "known_at": "2000-01-21T05:00:00",
    }
    return {"stays": [stay], "events": events, "treatments": [treatment], "episodes": [episode]}


def set_cell(table: str, column: str, *values) -> Corruption:
    def corrupt(request: Request, rng: Random) -> Request:
        rng.choice(request[table])[column] = rng.choice(values)
        return request

    return corrupt


def drop_column(table: str, *columns: str) -> Corruption:
    def corrupt(request: Request, rng: Random) -> Request:
        column = rng.choice(columns)
        for row in request[table]:
            del row[column]
        return request

    return corrupt


def repeat_row(table: str) -> Corruption:
    return lambda request, rng: {
        **request,
        table: [*request[table], rng.choice(request[table])],
    }


def set_table(table: str, *values) -> Corruption:
    return lambda request, rng: {**request, table: rng.choice(values)}


def add_unknown_table(request: Request, rng: Random) -> Request:
    return {**request, rng.choice(["event", "", "x" * 999]): []}


def empty_rows(request: Request, rng: Random) -> Request:
    return {**request, "events": [{}] * rng.randrange(1, 4)}


def unequal_columns(request: Request, rng: Random) -> Request:
    columns = {"stay_id": [1], "time": [], "value": [1] * rng.randrange(2, 9)}
    return {**request, "events": columns}


def not_an_object(request: Request, rng: Random):
    return rng.choice([[], 1, "x", None, True, [request]])


LONG = "x" * 5000
OTHER_CALENDARS = ("0001-01-01T00:00:00", "9999-12-31T23:59:59", "1650-01-01T00:00:00")
UNREADABLE_TIMES = (
    *("yesterday", "", "2000-13-01T00:00:00", "2000-01-01T00:00:00Z", "\0", LONG),
    *("2000-01-01T00:00:00+02:00", "2000-02-30T00:00:00", "99999-01-01T00:00:00", "1e9"),
)
EVENT_COLUMNS = ("time", "known_at", "variable", "value", "stay_id")
OUT_OF_RANGE = (-1, 1000, 1e308, -(2**63), 2**64 - 1)
EARLY_DISCHARGES = ("1999-12-01T00:00:00", "1969-01-01T00:00:00")

BROKEN_RULES: dict[str, tuple[Corruption, str]] = {
    "wrong type of a number": (
        set_cell("events", "value", "high", True, [1], {"a": 1}, "80"),
        "type",
    ),
    "wrong type of an id": (
        set_cell("stays", "stay_id", 1.5, "7", True, [], 2**63, 1e300),
        "type",
    ),
    "wrong type of text": (set_cell("events", "variable", 7, False, ["hr"]), "type"),
    "wrong type of a time": (set_cell("events", "time", 946713600, 1.5, False, {}), "type"),
    "null in a required column": (set_cell("events", "value", None), "not_null"),
    "missing column": (drop_column("events", *EVENT_COLUMNS), "missing_column"),
    "missing column of stays": (drop_column("stays", "admitted_at", "stay_id"), "missing_column"),
    "extra column": (set_cell("events", "valeu", 1, None), "extra_column"),
    "unknown variable": (
        set_cell("events", "variable", "hrr", "", "\0", LONG, "𝄞"),
        "known_variable",
    ),
    "unknown drug": (set_cell("treatments", "drug", "norepi", "", "\0\0", LONG), "known_drug"),
    "misspelt response": (
        set_cell("episodes", "response", "sepsiss", "akki", "septic"),
        "known_response",
    ),
    "response that is no name": (set_cell("episodes", "response", "Sepsis", ""), "response_name"),
    "unknown unit": (set_cell("treatments", "unit", "mg", "", "ug/kg"), "known_unit"),
    "duplicate stay": (repeat_row("stays"), "duplicate"),
    "duplicate event": (repeat_row("events"), "duplicate"),
    "events of an unknown stay": (set_cell("events", "stay_id", -1, 0, 2**63 - 1), "known_stay"),
    "unreadable time": (set_cell("events", "time", *UNREADABLE_TIMES), "time"),
    "time far from any calendar": (set_cell("stays", "admitted_at", *OTHER_CALENDARS), "calendar"),
    "time before the epoch": (
        set_cell("events", "time", "1969-12-31T00:00:00", "1901-01-01T00:00:00"),
        "inside_stay",
    ),
    "discharge before admission": (
        set_cell("stays", "discharged_at", *EARLY_DISCHARGES),
        "admitted_before_discharged",
    ),
    "known before true": (
        set_cell("events", "known_at", "2000-01-19T00:00:00"),
        "known_not_before_true",
    ),
    "value out of range": (set_cell("events", "value", *OUT_OF_RANGE), "plausible_range"),
    "age out of range": (set_cell("stays", "age", -1, 200.0), "plausible_range"),
    "negative dose": (set_cell("treatments", "dose", -0.1), "not_negative"),
    "onset after the stay": (set_cell("episodes", "onset", "2000-06-01T00:00:00"), "inside_stay"),
    "unknown table": (add_unknown_table, "known_table"),
    "no stays": (set_table("stays", [], None, {}), "stays_required"),
    "table of the wrong form": (set_table("events", 1, "x", True), "table_form"),
    "row of the wrong form": (set_table("events", [1], [None], [[]], ["x"]), "record"),
    "empty row": (empty_rows, "missing_column"),
    "columns of unequal length": (unequal_columns, "column_lengths"),
    "column of the wrong form": (
        set_table("events", {"stay_id": 1}, {"stay_id": "x"}, {"stay_id": {}}),
        "column_form",
    ),
    "a stay of centuries": (
        set_cell("stays", "discharged_at", "2399-01-01T00:00:00"),
        "steps_per_stay",
    ),
    "not an object": (not_an_object, "object"),
}
"""{what is wrong: (how a valid request is corrupted, the rule that the answer names)}."""


def encode(request: Request, rng: Random) -> bytes:
    return orjson.dumps(request)


def not_json(request: Request, rng: Random) -> bytes:
    return rng.choice([b"{", b"stays", b"{'stays': []}", encode(request, rng)[:-1]])


def not_a_number(request: Request, rng: Random) -> bytes:
    text = rng.choice([b"NaN", b"Infinity", b"1e999"])
    return encode(request, rng).replace(b":50.5", b":" + text)


def replace_heart_rate(text: bytes):
    return lambda request, rng: encode(request, rng).replace(b'"hr"', text)


@dataclass(frozen=True)
class BadBody:
    """How to make a body, and the answer's status and kind of error."""

    make: Callable[[Request, Random], bytes]
    status: int
    error: str
    is_large: bool = False


BAD_BODIES: dict[str, BadBody] = {
    "not JSON": BadBody(not_json, 400, "not_json"),
    "not a number": BadBody(not_a_number, 400, "not_json"),
    "empty": BadBody(lambda request, rng: rng.choice([b"", b" ", b"\n\n"]), 400, "empty"),
    "deeply nested": BadBody(
        lambda request, rng: b"[" * rng.randrange(1100, 90_000), 400, "not_json"
    ),
    "nested objects": BadBody(
        lambda request, rng: b'{"stays":' * rng.randrange(1100, 9_000), 400, "not_json"
    ),
    "null bytes": BadBody(lambda request, rng: b"\0" * rng.randrange(1, 99), 400, "not_json"),
    "a null byte inside": BadBody(
        lambda request, rng: encode(request, rng).replace(b",", b"\0,", 1), 400, "not_json"
    ),
    "not UTF-8": BadBody(replace_heart_rate(b'"\xff\xfe"'), 400, "not_json"),
    "half a character": BadBody(replace_heart_rate(b'"\\ud800"'), 400, "not_json"),
    "too big": BadBody(
        lambda request, rng: encode(request, rng) + b" " * 200_001, 413, "too_large", is_large=True
    ),
    "many empty rows": BadBody(
        lambda request, rng: b'{"stays":[' + b"{}," * 40_000 + b"{}]}",
        *(422, "invalid"),
        is_large=True,
    ),
    "too many stays": BadBody(
        lambda request, rng: orjson.dumps({"stays": {"stay_id": list(range(1001))}}),
        *(413, "too_many_stays"),
        is_large=True,
    ),
}


@dataclass(frozen=True)
class Case:
    """One wrong request and its answer."""

    name: str
    body: bytes
    status: int
    error: str
    rule: str | None = None
    method: str = "POST"
    path: str = "/predict"
    headers: dict[str, str] = field(default_factory=lambda: JSON)


def http_cases(rng: Random, body: bytes) -> list[Case]:
    """Requests whose data are right, but not their headers, method or path."""
    kind = rng.choice(["text/csv", "", "application/xml"])
    encoding = rng.choice(["gzip", "br", "?"])
    method = rng.choice(["GET", "PUT", "DELETE", "PATCH", "BREW"])
    get_only = rng.choice(["/health", "/metrics", "/version"])
    unknown = rng.choice(["/", "/predict2", "/predict/x", "/..%2f", "/%00", "/invocations"])
    compressed = {**JSON, "content-encoding": encoding}
    return [
        Case("wrong type", body, 415, "content_type", headers={"content-type": kind}),
        Case("no type", body, 415, "content_type", headers={}),
        Case("compressed", body, 415, "content_encoding", headers=compressed),
        Case("wrong method", body, 405, "wrong_method", method=method),
        Case("wrong method of a page", body, 405, "wrong_method", path=get_only),
        Case("unknown path", body, 404, "unknown_path", path=unknown),
    ]


def two_thousand_cases(seed: int) -> list[Case]:
    rng = Random(seed)
    cases: list[Case] = []
    while len(cases) < 2000:
        for name, (corrupt, rule) in BROKEN_RULES.items():
            body = orjson.dumps(corrupt(valid_request(rng), rng))
            cases.append(Case(name, body, 422, "invalid", rule))
        for name, bad in BAD_BODIES.items():
            if not bad.is_large or len(cases) < 200:
                body = bad.make(valid_request(rng), rng)
                cases.append(Case(name, body, bad.status, bad.error))
        cases += http_cases(rng, encode(valid_request(rng), rng))
    rng.shuffle(cases)
    return cases


async def send_all(service, cases: list[Case]) -> tuple[list[httpx.Response], bytes]:
    """The answers, and the server's metrics after a valid request that follows."""
    app = make_app(service)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
    ):
        answers = []
        for start in range(0, len(cases), 50):
            requests = [
                client.request(case.method, case.path, headers=case.headers, content=case.body)
                for case in cases[start : start + 50]
            ]
            answers += await asyncio.gather(*requests)
        valid = encode(valid_request(Random(0)), Random(0))
        answer = await client.post("/predict", headers=JSON, content=valid)
        assert answer.status_code == 200
        return answers, (await client.get("/metrics")).content


def test_a_valid_request_is_answered(scorer):
    for seed in range(20):
        decode_answer(scorer.score([orjson.dumps(valid_request(Random(seed)))])[0])


def test_two_thousand_malformed_requests_are_rejected_with_the_reason(service):
    cases = two_thousand_cases(seed=7)
    assert len({case.name for case in cases}) >= 40
    answers, metrics = asyncio.run(send_all(service, cases))
    for case, answer in zip(cases, answers, strict=True):
        content = answer.json()
        context = (case.name, case.body[:300], content)
        assert answer.status_code == case.status, context
        assert content["error"] == case.error, context
        assert content["message"], context
        assert len(answer.content) < 20_000, context
        if case.rule:
            assert case.rule in {problem["rule"] for problem in content["problems"]}, context
    assert b'flowsheet_rejected_total{kind="invalid"}' in metrics
    assert b'status="500"' not in metrics


@pytest.mark.parametrize(
    ("cell", "value", "rule", "hint"),
    [
        (("events", 2, "variable"), "hart", "known_variable", 'did you mean "'),
        (("events", 2, "value"), 1000, "plausible_range", "no living patient"),
        (("events", 2, "time"), "noon", "time", "ISO 8601"),
        (("events", 2, "stay_id"), 99, "known_stay", "send the stay's row"),
        (
            ("treatments", 1, "drug"),
            "norepinefrine",
            "known_drug",
            'did you mean "norepinephrine"?',
        ),
        (("stays", 1, "sex"), "f", "known_sex", "F, M or null"),
    ],
)
def test_a_problem_names_table_row_column_rule_and_value(scorer, cell, value, rule, hint):
    table, row, column = cell
    request = valid_request(Random(3))
    request[table][row - 1][column] = value
    (rejection,) = scorer.score([orjson.dumps(request)])
    problems = orjson.loads(rejection.body)["problems"]
    problem = next(problem for problem in problems if problem["rule"] == rule)
    assert (problem["table"], problem["row"], problem["column"]) == cell
    assert problem["value"] == str(value)
    assert hint in problem["message"]


def test_many_problems_are_counted_and_the_first_ones_listed(scorer):
    request = valid_request(Random(3))
    event = request["events"][0]
    request["events"] = [
        {**event, "time": f"2000-01-20T00:00:{second:02d}", "value": -1} for second in range(60)
    ]
    (rejection,) = scorer.score([orjson.dumps(request)])
    answer = orjson.loads(rejection.body)
    assert (answer["problem_count"], len(answer["problems"])) == (60, 20)
    assert answer["message"].startswith("60 problems; the first: row 1 of events, value:")


def test_an_unknown_column_of_an_empty_table_is_ignored(scorer):
    request = {**valid_request(Random(3)), "events": {"valeu": []}}
    decode_answer(scorer.score([orjson.dumps(request)])[0])
