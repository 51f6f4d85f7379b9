"""``POST /explain``: contributions that add up, with the protections of ``/predict``."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from fastapi.testclient import TestClient

from flowsheet.serving.app import make_app
from flowsheet.serving.model_slot import LoadedModel
from tests.request_bodies import encode_body, select_stays

JSON = {"content-type": "application/json"}


@pytest.fixture
def client(service):
    with TestClient(make_app(service), base_url="http://localhost") as client:
        yield client


@pytest.fixture
def tables(ward):
    """Two stays."""
    return select_stays(ward, *ward.stays["stay_id"].head(2))


@pytest.fixture
def body(tables):
    return encode_body(tables)


def test_the_contributions_of_the_last_step_add_up_to_the_risk_of_predict(client, body):
    answer = client.post("/explain", content=body, headers=JSON)
    assert answer.status_code == 200
    risks = client.post("/predict", content=body, headers=JSON).json()
    assert answer.json()["model"] == risks["model"]
    for explained, predicted in zip(answer.json()["stays"], risks["stays"], strict=True):
        assert explained["stay_id"] == predicted["stay_id"]
        (step,) = explained["explanations"]
        assert step["step"] == predicted["step"][-1]
        assert step["time"] == predicted["time"][-1]
        assert step["risk"] == pytest.approx(predicted["risk"][-1], abs=1e-5)
        listed = step["contributions"]
        assert 1 <= len(listed) <= 5
        total = step["baseline"] + sum(c["contribution"] for c in listed) + step["others"]
        assert total == pytest.approx(math.log(step["risk"] / (1 - step["risk"])), abs=1e-5)
        sizes = [abs(c["contribution"]) for c in listed]
        assert sizes == sorted(sizes, reverse=True)
        assert all(c["text"].startswith(c["label"]) or c["kind"] != "variable" for c in listed)


def test_all_steps_and_as_many_contributions_as_are_asked_for(client, body):
    answer = client.post("/explain?steps=all&top=1", content=body, headers=JSON).json()
    risks = client.post("/predict", content=body, headers=JSON).json()
    for explained, predicted in zip(answer["stays"], risks["stays"], strict=True):
        assert [e["step"] for e in explained["explanations"]] == predicted["step"]
        assert all(len(e["contributions"]) == 1 for e in explained["explanations"])


@pytest.mark.parametrize("query", ["steps=first", "top=0", "top=ten", "top=9999999999", "k=3"])
def test_a_choice_that_does_not_exist_is_rejected(client, body, query):
    answer = client.post(f"/explain?{query}", content=body, headers=JSON)
    assert (answer.status_code, answer.json()["error"]) == (422, "invalid_query")


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (b"{", JSON),
        (b"{}", JSON),
        (b'{"stays": [{"stay_id": 1}]}', JSON),
        (b'{"stays": []}', {"content-type": "text/plain"}),
        (b" " * 300_000, JSON),
    ],
)
def test_what_predict_rejects_is_rejected_alike(client, content, headers):
    answers = [client.post(p, content=content, headers=headers) for p in ("/predict", "/explain")]
    assert answers[0].status_code >= 400
    assert answers[0].status_code == answers[1].status_code
    assert answers[0].json() == answers[1].json()


def test_too_many_steps_are_not_explained_at_once(service, body):
    limits = service.config.limits.model_copy(update={"explained_steps": 2})
    service.config = service.config.model_copy(update={"limits": limits})
    with TestClient(make_app(service), base_url="http://localhost") as client:
        assert client.post("/explain", content=body, headers=JSON).status_code == 200
        answer = client.post("/explain?steps=all", content=body, headers=JSON)
        assert (answer.status_code, answer.json()["error"]) == (413, "too_many_explanations")


def test_a_foreign_host_is_refused(client, body):
    answer = client.post("/explain", content=body, headers={**JSON, "host": "evil.example"})
    assert answer.status_code >= 400


def test_a_model_without_reference_inputs_is_not_explained(service, challenger_package, body):
    model = replace(service.champion.current, model_package=challenger_package)
    assert isinstance(model, LoadedModel)
    service.champion.current = model
    reference = challenger_package.model.reference
    challenger_package.model.reference = None
    try:
        with TestClient(make_app(service), base_url="http://localhost") as client:
            answer = client.post("/explain", content=body, headers=JSON)
    finally:
        challenger_package.model.reference = reference
    assert (answer.status_code, answer.json()["error"]) == (501, "not_explainable")
    assert "train it again" in answer.json()["message"]


def test_explanations_are_logged_and_counted(client, body, capsys):
    client.post("/explain", content=body, headers=JSON)
    assert '"path":"/explain"' in "".join(capsys.readouterr()).replace(" ", "")
    lines = client.get("/metrics").text.splitlines()
    metrics = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert metrics['flowsheet_requests_total{path="/explain",status="200"}'] == "1.0"
    assert metrics["flowsheet_explained_steps_total"] == "2.0"
    assert metrics["flowsheet_explain_seconds_count"] == "1.0"
