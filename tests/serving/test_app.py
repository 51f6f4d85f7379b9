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

from flowsheet.serving.app import make_app
from flowsheet.serving.service import Service
from tests.request_bodies import encode_body, select_stays

JSON = {"content-type": "application/json"}


@pytest.fixture
def client(service):
    with TestClient(make_app(service), base_url="http://localhost") as client:
        yield client


@pytest.fixture
def body(ward):
    """A request of two stays."""
    return encode_body(select_stays(ward, *ward.stays["stay_id"].head(2)))


def test_a_prediction_over_http_is_the_scorers(client, scorer, body):
    headers = {"content-type": "application/json; charset=utf-8"}
    answer = client.post("/predict", content=body, headers=headers)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.content == scorer.score([body])[0].body


def test_health_and_version_name_the_model(client, service):
    health = client.get("/health").json()
    assert health["status"] == "ok"
    assert health["champion"]["version"] == 3
    assert health["champion"]["error"] is None
    (model,) = client.get("/version").json()["models"]
    assert (model["name"], model["version"], model["kind"]) == ("ward-lstm", 3, "lstm")
    assert model["task"]["step_hours"] == 6
    service.champion.error = "the registry does not answer"
    health = client.get("/health").json()
    assert health["status"] == "degraded"
    assert health["champion"]["error"] == "the registry does not answer"


def test_metrics_count_answers_and_rejections(client, body):
    for content in (body, body, b"{"):
        client.post("/predict", content=content, headers=JSON)
    client.get("/nowhere")
    lines = client.get("/metrics").text.splitlines()
    metrics = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert metrics['flowsheet_requests_total{path="/predict",status="200"}'] == "2.0"
    assert metrics['flowsheet_requests_total{path="/predict",status="400"}'] == "1.0"
    assert metrics['flowsheet_requests_total{path="other",status="404"}'] == "1.0"
    assert metrics['flowsheet_rejected_total{kind="not_json"}'] == "1.0"
    assert metrics["flowsheet_predict_seconds_count"] == "2.0"
    assert metrics["flowsheet_stays_total"] == "4.0"
    assert float(metrics["flowsheet_steps_total"]) > 4


def test_the_schema_describes_tables_and_its_example_is_answered(client):
    schema = client.get("/openapi.json").json()
    content = schema["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
    assert set(content["schema"]["properties"]) == {"stays", "events", "treatments", "episodes"}
    answer = client.post("/predict", json=content["example"])
    assert [stay["stay_id"] for stay in answer.json()["stays"]] == [1, 2]


def test_the_docs_page_loads_no_external_resources(client):
    page = client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "known_at" in page.text
    assert "This server answers with " in page.text
    assert "http" not in page.text.lower()


def test_a_body_that_grows_too_large_while_it_is_sent_is_rejected(client):
    answer = client.post("/predict", content=iter([b" " * 100_000] * 4), headers=JSON)
    assert (answer.status_code, answer.json()["error"]) == (413, "too_large")


def test_requests_over_a_limit_are_rejected_with_its_name(service, ward):
    limits = service.config.limits.model_copy(update={"rows": 30, "stays": 2, "steps": 5})
    service.config = service.config.model_copy(update={"limits": limits})
    with TestClient(make_app(service), base_url="http://localhost") as client:

        def rejection(tables):
            answer = client.post("/predict", content=encode_body(tables), headers=JSON)
            return answer.status_code, answer.json()["error"]

        assert rejection(ward) == (413, "too_many_rows")
        few_rows = replace(
            ward,
            stays=ward.stays.head(3),
            events=ward.events.head(1),
            treatments=ward.treatments[:0],
            episodes=ward.episodes[:0],
        )
        assert rejection(few_rows) == (413, "too_many_stays")
        one_stay = select_stays(ward, ward.stays["stay_id"][0])
        week = pl.col("admitted_at") + pl.duration(days=7)
        long_stay = replace(one_stay, stays=one_stay.stays.with_columns(discharged_at=week))
        assert rejection(long_stay) == (413, "too_many_steps")


def test_requests_beyond_the_queue_are_rejected_and_the_server_is_not_ready(service, body):
    service.config = service.config.model_copy(update={"queue_size": 1, "batch_size": 1})
    current_champion = service.current_champion
    may_finish = threading.Event()

    def wait_and_get_champion():
        may_finish.wait(20)
        return current_champion()

    service.current_champion = wait_and_get_champion

    async def send_five():
        app = make_app(service)
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
        ):

            def send():
                return asyncio.create_task(client.post("/predict", content=body, headers=JSON))

            first = send()
            registry = service.metrics.registry
            while not registry.get_sample_value("flowsheet_batch_requests_count"):
                await asyncio.sleep(0.01)
            others = [send() for _ in range(4)]
            await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED)
            ready_when_full = await client.get("/ready")
            may_finish.set()
            answers = [await answer for answer in (first, *others)]
            return ready_when_full, answers, await client.get("/ready")

    ready_when_full, answers, ready_when_done = asyncio.run(send_five())
    assert (ready_when_full.status_code, ready_when_done.status_code) == (503, 200)
    assert sorted(answer.status_code for answer in answers) == [200, 200, 503, 503, 503]
    for answer in answers:
        if answer.status_code == 503:
            assert answer.headers["retry-after"] == "1"
            assert answer.json()["error"] == "busy"


def test_a_request_that_takes_too_long_is_answered_with_a_timeout(service, body):
    limits = service.config.limits.model_copy(update={"answer_seconds": 0.05})
    service.config = service.config.model_copy(update={"limits": limits})
    current_champion = service.current_champion

    def sleep_and_get_champion():
        time.sleep(0.3)
        return current_champion()

    service.current_champion = sleep_and_get_champion
    with TestClient(make_app(service), base_url="http://localhost") as client:
        answer = client.post("/predict", content=body, headers=JSON)
        assert (answer.status_code, answer.json()["error"]) == (503, "timeout")


def test_no_part_of_a_record_reaches_the_log(service, ward, capfd, monkeypatch):
    monkeypatch.setattr(Service, "current_champion", lambda self: 1 / 0)
    stays = ward.stays.head(1).with_columns(unit=pl.lit("SECRET WARD"))
    tables = replace(select_stays(ward, stays["stay_id"][0]), stays=stays)
    with TestClient(make_app(service), base_url="http://localhost") as client:
        answer = client.post("/predict", content=encode_body(tables), headers=JSON)
    assert answer.status_code == 500
    log = capfd.readouterr()
    assert "SECRET" not in log.out + log.err + answer.text
    assert orjson.loads(answer.content)["error"] == "internal"
