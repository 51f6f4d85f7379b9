from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace

import httpx
import orjson
import polars as pl
import pytest
from fastapi.testclient import TestClient

from flowsheet.prediction.errors import Refused
from flowsheet.serving.app import make_app
from flowsheet.serving.batcher import Batcher
from flowsheet.serving.service import Service

JSON = {"content-type": "application/json"}


@pytest.fixture
def client(service):
    with TestClient(make_app(service)) as client:
        yield client


@pytest.fixture
def asked(ward, tell):
    return tell.body(tell.of_stays(ward, *ward.stays["stay_id"].head(2)))


def test_a_prediction_over_http_is_the_scorers(client, scorer, asked):
    answer = client.post(
        "/predict", content=asked, headers={"content-type": "application/json; charset=utf-8"}
    )
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.content == scorer.score([asked])[0].body


def test_health_and_version_name_the_model(client, service):
    health = client.get("/health").json()
    assert (health["status"], health["champion"]["version"], health["champion"]["error"]) == (
        "ok",
        3,
        None,
    )
    (model,) = client.get("/version").json()["models"]
    assert (model["name"], model["version"], model["kind"]) == ("ward-lstm", 3, "lstm")
    assert model["task"]["step_hours"] == 6
    service.champion.error = "the registry does not answer"
    health = client.get("/health").json()
    assert (health["status"], health["champion"]["error"]) == (
        "degraded",
        "the registry does not answer",
    )


def test_metrics_count_what_was_answered_and_refused(client, asked):
    for body in (asked, asked, b"{"):
        client.post("/predict", content=body, headers=JSON)
    client.get("/nowhere")
    told = dict(
        line.rsplit(" ", 1)
        for line in client.get("/metrics").text.splitlines()
        if not line.startswith("#")
    )
    assert told['flowsheet_requests_total{path="/predict",status="200"}'] == "2.0"
    assert told['flowsheet_requests_total{path="/predict",status="400"}'] == "1.0"
    assert told['flowsheet_requests_total{path="other",status="404"}'] == "1.0"
    assert told['flowsheet_refused_total{kind="not_json"}'] == "1.0"
    assert told["flowsheet_predict_seconds_count"] == "2.0"
    assert told["flowsheet_stays_total"] == "4.0"
    assert float(told["flowsheet_steps_total"]) > 4


def test_the_schema_describes_tables_and_its_example_is_answered(client):
    schema = client.get("/openapi.json").json()
    content = schema["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
    assert set(content["schema"]["properties"]) == {"stays", "events", "treatments", "episodes"}
    answer = client.post("/predict", json=content["example"])
    assert [stay["stay_id"] for stay in answer.json()["stays"]] == [1, 2]


def test_the_page_loads_nothing_from_elsewhere(client):
    page = client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "known_at" in page.text
    assert "http" not in page.text.lower().replace("over http", "")


def test_a_body_that_grows_too_large_on_its_way_is_refused(client):
    answer = client.post("/predict", content=iter([b" " * 100_000] * 4), headers=JSON)
    assert (answer.status_code, answer.json()["error"]) == (413, "too_large")


def test_limits_are_told(service, ward, tell):
    limits = service.config.limits.model_copy(update={"rows": 30, "stays": 2, "steps": 5})
    service.config = service.config.model_copy(update={"limits": limits})
    ids = ward.stays["stay_id"].to_list()
    one = tell.of_stays(ward, ids[0])
    with TestClient(make_app(service)) as client:

        def kind(tables):
            answer = client.post("/predict", content=tell.body(tables), headers=JSON)
            return answer.status_code, answer.json()["error"]

        assert kind(ward) == (413, "too_many_rows")
        few = replace(
            ward,
            events=ward.events.head(1),
            treatments=ward.treatments[:0],
            episodes=ward.episodes[:0],
        )
        assert kind(replace(few, stays=ward.stays.head(3))) == (413, "too_many_stays")
        week = one.stays.with_columns(discharged_at=pl.col("admitted_at") + pl.duration(days=7))
        assert kind(replace(one, stays=week)) == (413, "too_many_steps")


def test_when_too_many_wait_further_ones_are_sent_away_and_the_server_is_not_ready(service, asked):
    service.config = service.config.model_copy(update={"waiting": 1, "batch": 1})
    hold, go = service.champion_now, threading.Event()

    def slow():
        go.wait(20)
        return hold()

    service.champion_now = slow

    async def crowd():
        app = make_app(service)
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://x") as c,
        ):
            first = asyncio.create_task(c.post("/predict", content=asked, headers=JSON))
            while not service.metrics.registry.get_sample_value("flowsheet_batch_requests_count"):
                await asyncio.sleep(0.01)
            later = [
                asyncio.create_task(c.post("/predict", content=asked, headers=JSON))
                for _ in range(4)
            ]
            await asyncio.wait(later, return_when=asyncio.FIRST_COMPLETED)
            ready = await c.get("/ready")
            go.set()
            answers = [await answer for answer in (first, *later)]
            return ready, answers, await c.get("/ready")

    busy, answers, free = asyncio.run(crowd())
    assert (busy.status_code, free.status_code) == (503, 200)
    refused = [a for a in answers if a.status_code == 503]
    assert len(refused) == 3
    assert all(a.headers["retry-after"] == "1" and a.json()["error"] == "busy" for a in refused)
    assert {a.status_code for a in answers} == {200, 503}


def test_an_answer_that_takes_too_long_is_given_up(service, asked):
    limits = service.config.limits.model_copy(update={"answer_seconds": 0.05})
    service.config = service.config.model_copy(update={"limits": limits})
    hold = service.champion_now

    def slow():
        time.sleep(0.3)
        return hold()

    service.champion_now = slow
    with TestClient(make_app(service)) as client:
        answer = client.post("/predict", content=asked, headers=JSON)
        assert (answer.status_code, answer.json()["error"]) == (503, "timeout")


def test_a_batcher_takes_what_waits_together_and_finishes_before_it_closes():
    sizes = []

    def work(bodies):
        time.sleep(0.05)
        return [Refused(400, "echo", body.decode()) for body in bodies]

    async def crowd():
        batcher = Batcher(work, size=8, waiting=100, taken=sizes.append)
        tasks = [asyncio.create_task(batcher.submit(str(i).encode())) for i in range(20)]
        await asyncio.sleep(0)
        batcher.start()
        await batcher.close(5)
        return [(await task).message for task in tasks]

    assert asyncio.run(crowd()) == [str(i) for i in range(20)]
    assert sizes == [8, 8, 4]


def test_a_batch_waits_for_what_is_on_its_way():
    sizes = []

    async def crowd():
        batcher = Batcher(
            lambda bodies: [Refused(400, "echo", "") for _ in bodies], 8, 100, sizes.append
        )
        batcher.start()
        tasks = []
        for _ in range(5):
            tasks.append(asyncio.create_task(batcher.submit(b"")))
            await asyncio.sleep(0)  # one round of the loop
        await asyncio.gather(*tasks)
        await batcher.close(5)

    asyncio.run(crowd())
    assert sizes == [5]


def test_the_loop_goes_on_beside_a_long_batch():
    go = threading.Event()

    def work(bodies):
        go.wait(20)
        return [Refused(400, "echo", "") for _ in bodies]

    async def crowd():
        batcher = Batcher(work, size=8, waiting=100)
        batcher.start()
        long = asyncio.create_task(batcher.submit(b""))
        for _ in range(9):
            await asyncio.sleep(0.01)
        assert not long.done()
        go.set()  # which no loop that stands still could say
        later = await asyncio.gather(long, batcher.submit(b""))
        await batcher.close(5)
        return later

    assert [outcome.kind for outcome in asyncio.run(crowd())] == ["echo", "echo"]


def test_nothing_of_a_record_reaches_the_journal(service, ward, tell, capfd, monkeypatch):
    monkeypatch.setattr(Service, "champion_now", lambda self: 1 / 0)
    marked = ward.stays.head(1).with_columns(unit=pl.lit("SECRET WARD"))
    with TestClient(make_app(service)) as client:
        body = tell.body(replace(tell.of_stays(ward, marked["stay_id"][0]), stays=marked))
        answer = client.post("/predict", content=body, headers=JSON)
    assert answer.status_code == 500
    told = capfd.readouterr()
    assert "SECRET" not in told.out + told.err + answer.text
    assert orjson.loads(answer.content)["error"] == "internal"
