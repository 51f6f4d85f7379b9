"""Two thousand wrong requests of thirty kinds: every one is told what is wrong, none is the server's fault."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import httpx
import orjson
import pytest

from flowsheet.serving.app import make_app

JSON = {"content-type": "application/json"}
Told = dict
Draw = random.Random


def good(draw: Draw) -> Told:
    stay = draw.randrange(1, 10**6)
    start = f"2000-01-{draw.randrange(1, 20):02d}T08:00:00"
    return {
        "stays": [{"stay_id": stay, "admitted_at": start, "discharged_at": "2000-01-25T00:00:00", "age": 50.5}],
        "events": [
            {"stay_id": stay, "time": f"2000-01-20T{hour:02d}:00:00", "known_at": "2000-01-20T23:00:00",
             "variable": "hr", "value": 80 + hour}
            for hour in range(draw.randrange(2, 20))
        ],
        "treatments": [
            {"stay_id": stay, "drug": "norepinephrine", "start": start, "end": "2000-01-21T00:00:00", "known_at": start,
             "dose": 2.0, "unit": "mcg/kg"}
        ],
        "episodes": [{"stay_id": stay, "onset": "2000-01-21T00:00:00", "known_at": "2000-01-21T05:00:00"}],
    }  # fmt: skip


def with_cell(table: str, column: str, *values) -> Callable[[Told, Draw], Told]:
    def spoil(told: Told, draw: Draw) -> Told:
        draw.choice(told[table])[column] = draw.choice(values)
        return told

    return spoil


def without(table: str, *columns: str) -> Callable[[Told, Draw], Told]:
    def spoil(told: Told, draw: Draw) -> Told:
        column = draw.choice(columns)
        for row in told[table]:
            del row[column]
        return told

    return spoil


def twice(table: str) -> Callable[[Told, Draw], Told]:
    return lambda told, draw: {**told, table: [*told[table], draw.choice(told[table])]}


LONG = "x" * 5000
SPOILT: dict[str, tuple[Callable[[Told, Draw], Told], str]] = {
    "wrong type of a number": (with_cell("events", "value", "high", True, [1], {"a": 1}, "80"), "type"),
    "wrong type of an id": (with_cell("stays", "stay_id", 1.5, "7", True, [], 2**63, 1e300), "type"),
    "wrong type of text": (with_cell("events", "variable", 7, False, ["hr"]), "type"),
    "wrong type of a time": (with_cell("events", "time", 946713600, 1.5, False, {}), "type"),
    "null where a value must be": (with_cell("events", "value", None), "not_null"),
    "missing column": (without("events", "time", "known_at", "variable", "value", "stay_id"), "missing_column"),
    "missing column of stays": (without("stays", "admitted_at", "stay_id"), "missing_column"),
    "extra column": (with_cell("events", "valeu", 1, None), "extra_column"),
    "unknown variable": (with_cell("events", "variable", "hrr", "", "\0", LONG, "𝄞"), "known_variable"),
    "unknown drug": (with_cell("treatments", "drug", "norepi", "", "\0\0", LONG), "known_drug"),
    "unknown unit": (with_cell("treatments", "unit", "mg", "", "ug/kg"), "known_unit"),
    "duplicate stay": (twice("stays"), "duplicate"),
    "duplicate event": (twice("events"), "duplicate"),
    "events of an unknown stay": (with_cell("events", "stay_id", -1, 0, 2**63 - 1), "known_stay"),
    "unreadable time": (
        with_cell("events", "time", "yesterday", "", "2000-13-01T00:00:00", "2000-01-01T00:00:00Z", "\0", LONG,
                  "2000-01-01T00:00:00+02:00", "2000-02-30T00:00:00", "99999-01-01T00:00:00", "1e9"),
        "time",
    ),
    "time far from any calendar": (
        with_cell("stays", "admitted_at", "0001-01-01T00:00:00", "9999-12-31T23:59:59", "1650-01-01T00:00:00"),
        "calendar",
    ),
    "time before the epoch": (with_cell("events", "time", "1969-12-31T00:00:00", "1901-01-01T00:00:00"), "inside_stay"),
    "discharge before admission": (
        with_cell("stays", "discharged_at", "1999-12-01T00:00:00", "1969-01-01T00:00:00"), "admitted_before_discharged"
    ),
    "known before true": (with_cell("events", "known_at", "2000-01-19T00:00:00"), "known_not_before_true"),
    "value out of range": (with_cell("events", "value", -1, 1000, 1e308, -(2**63), 2**64 - 1), "plausible_range"),
    "age out of range": (with_cell("stays", "age", -1, 200.0), "plausible_range"),
    "negative dose": (with_cell("treatments", "dose", -0.1), "not_negative"),
    "onset after the stay": (with_cell("episodes", "onset", "2000-06-01T00:00:00"), "inside_stay"),
    "unknown table": (lambda told, draw: {**told, draw.choice(["event", "", "x" * 999]): []}, "known_table"),
    "no stays": (lambda told, draw: {**told, "stays": draw.choice([[], None, {}])}, "stays_given"),
    "table of the wrong form": (lambda told, draw: {**told, "events": draw.choice([1, "x", True])}, "table_form"),
    "row of the wrong form": (lambda told, draw: {**told, "events": [draw.choice([1, None, [], "x"])]}, "record"),
    "empty row": (lambda told, draw: {**told, "events": [{}] * draw.randrange(1, 4)}, "missing_column"),
    "columns of unequal length": (
        lambda told, draw: {**told, "events": {"stay_id": [1], "time": [], "value": [1] * draw.randrange(2, 9)}},
        "column_lengths",
    ),
    "column of the wrong form": (
        lambda told, draw: {**told, "events": {"stay_id": draw.choice([1, "x", {}])}}, "column_form"
    ),
    "a stay of centuries": (with_cell("stays", "discharged_at", "2399-01-01T00:00:00"), "steps_per_stay"),
    "not an object": (lambda told, draw: draw.choice([[], 1, "x", None, True, [told]]), "object"),
}  # fmt: skip


def raw(told: Told, draw: Draw) -> bytes:
    return orjson.dumps(told)


BODIES: dict[str, tuple[Callable[[Told, Draw], bytes], int, str]] = {
    "not JSON": (
        lambda told, draw: draw.choice([b"{", b"stays", b"{'stays': []}", raw(told, draw)[:-1]]), 400, "not_json"
    ),
    "not a number": (
        lambda told, draw: raw(told, draw).replace(b":50.5", b":" + draw.choice([b"NaN", b"Infinity", b"1e999"])),
        400, "not_json",
    ),
    "empty": (lambda told, draw: draw.choice([b"", b" ", b"\n\n"]), 400, "empty"),
    "deeply nested": (lambda told, draw: b"[" * draw.randrange(1100, 90_000), 400, "not_json"),
    "nested objects": (lambda told, draw: b'{"stays":' * draw.randrange(1100, 9_000), 400, "not_json"),
    "null bytes": (lambda told, draw: b"\0" * draw.randrange(1, 99), 400, "not_json"),
    "a null byte inside": (lambda told, draw: raw(told, draw).replace(b",", b"\0,", 1), 400, "not_json"),
    "not UTF-8": (lambda told, draw: raw(told, draw).replace(b'"hr"', b'"\xff\xfe"'), 400, "not_json"),
    "half a character": (lambda told, draw: raw(told, draw).replace(b'"hr"', b'"\\ud800"'), 400, "not_json"),
    "too big": (lambda told, draw: raw(told, draw) + b" " * 200_001, 413, "too_large"),
    "too many rows": (lambda told, draw: b'{"stays":[' + b"{}," * 40_000 + b"{}]}", 422, "invalid"),
    "too many stays": (
        lambda told, draw: orjson.dumps({"stays": {"stay_id": list(range(1001))}}), 413, "too_many_stays"
    ),
}  # fmt: skip


def http_kinds(draw: Draw, body: bytes) -> list[tuple[str, str, str, dict, bytes, int]]:
    """(kind of error, method, path, headers, body, status)."""
    kind, packing = (
        draw.choice(["text/csv", "", "application/xml"]),
        draw.choice(["gzip", "br", "?"]),
    )
    path = draw.choice(["/", "/predict2", "/predict/x", "/..%2f", "/%00", "/invocations"])
    return [
        ("content_type", "POST", "/predict", {"content-type": kind}, body, 415),
        ("content_type", "POST", "/predict", {}, body, 415),
        ("content_encoding", "POST", "/predict", {**JSON, "content-encoding": packing}, body, 415),
        (
            "wrong_method",
            draw.choice(["GET", "PUT", "DELETE", "PATCH", "BREW"]),
            "/predict",
            JSON,
            body,
            405,
        ),
        ("wrong_method", "POST", draw.choice(["/health", "/metrics", "/version"]), JSON, body, 405),
        ("unknown_path", "POST", path, JSON, body, 404),
    ]


def two_thousand(seed: int) -> list[tuple]:
    draw = Draw(seed)
    cases = []
    while len(cases) < 2000:
        for name, (spoil, rule) in SPOILT.items():
            cases.append(
                (
                    name,
                    "POST",
                    "/predict",
                    JSON,
                    orjson.dumps(spoil(good(draw), draw)),
                    422,
                    "invalid",
                    rule,
                )
            )
        for name, (make, status, kind) in BODIES.items():
            if "too" not in name or len(cases) < 200:
                cases.append(
                    (name, "POST", "/predict", JSON, make(good(draw), draw), status, kind, None)
                )
        for kind, method, path, headers, body, status in http_kinds(draw, raw(good(draw), draw)):
            cases.append((kind, method, path, headers, body, status, kind, None))
    draw.shuffle(cases)
    return cases


async def send_all(service, cases: list[tuple]) -> tuple[list[httpx.Response], bytes]:
    app = make_app(service)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://x") as client,
    ):
        answers = []
        for i in range(0, len(cases), 50):
            asked = [
                client.request(c[1], c[2], headers=c[3], content=c[4]) for c in cases[i : i + 50]
            ]
            answers += await asyncio.gather(*asked)
        assert (
            await client.post("/predict", headers=JSON, content=raw(good(Draw(0)), Draw(0)))
        ).status_code == 200
        return answers, (await client.get("/metrics")).content


def test_the_unspoilt_request_is_answered(scorer, tell):
    for seed in range(20):
        tell.answered(scorer.score([orjson.dumps(good(Draw(seed)))])[0])


def test_two_thousand_malformed_requests_are_told_why(service):
    cases = two_thousand(seed=7)
    assert len({case[0] for case in cases}) >= 40
    answers, metrics = asyncio.run(send_all(service, cases))
    for case, answer in zip(cases, answers, strict=True):
        told = answer.json()
        seen = (case[0], case[4][:300], told)
        assert answer.status_code == case[5], seen
        assert told["error"] == case[6], seen
        assert told["message"], seen
        assert len(answer.content) < 20_000, seen
        if case[7]:
            assert case[7] in {problem["rule"] for problem in told["problems"]}, seen
    assert b'flowsheet_refused_total{kind="invalid"}' in metrics
    assert b'status="500"' not in metrics


@pytest.mark.parametrize(
    ("where", "value", "rule", "words"),
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
def test_a_problem_names_table_row_column_rule_and_value(scorer, where, value, rule, words):
    table, row, column = where
    told = good(Draw(3))
    told[table][row - 1][column] = value
    (refused,) = scorer.score([orjson.dumps(told)])
    problem = next(p for p in orjson.loads(refused.body)["problems"] if p["rule"] == rule)
    assert (problem["table"], problem["row"], problem["column"], problem["value"]) == (
        *where,
        str(value),
    )
    assert words in problem["message"]


def test_many_problems_are_counted_and_a_few_are_listed(scorer):
    told = good(Draw(3))
    event = told["events"][0]
    told["events"] = [
        {**event, "time": f"2000-01-20T00:00:{i:02d}", "value": -1} for i in range(60)
    ]
    (refused,) = scorer.score([orjson.dumps(told)])
    answer = orjson.loads(refused.body)
    assert (answer["problem_count"], len(answer["problems"])) == (60, 20)
    assert answer["message"].startswith("60 problems; the first: row 1 of events, value:")
