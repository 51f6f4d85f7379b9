"""Who is answered: own hosts and origins, clients with a token; and what is logged of it."""

from __future__ import annotations

import hashlib
import json

import pytest
from fastapi.testclient import TestClient

from flowsheet.errors import UsageError
from flowsheet.serving.app import make_app
from flowsheet.serving.service import Service
from flowsheet.serving.settings import ServeConfig
from tests.request_bodies import encode_body, select_stays

JSON = {"content-type": "application/json"}
TOKEN = "a-token-of-the-ward-0123456789"
PAGES = (
    *("/predict", "/explain", "/health", "/ready", "/version"),
    *("/metrics", "/docs", "/openapi.json", "/x"),
)


@pytest.fixture
def make_client(champion):
    """A client of a server with these settings."""

    def make(base_url: str = "http://localhost:8000", **settings) -> TestClient:
        service = Service(ServeConfig(name="ward-lstm", poll_seconds=3600, **settings))
        service.champion.current = champion
        return TestClient(make_app(service), base_url=base_url)

    return make


@pytest.fixture
def token_file(tmp_path):
    path = tmp_path / "tokens"
    path.write_text(f"ward-7:{TOKEN}\n", encoding="utf-8")
    path.chmod(0o600)
    return path


@pytest.fixture
def body(ward):
    return encode_body(select_stays(ward, *ward.stays["stay_id"].head(2)))


def logged_requests(capsys) -> list[dict]:
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    return [event for event in events if event["event"] == "request"]


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 400),
        ({"host": "evil.example:8000"}, 400),
        ({"host": "localhost.evil.example"}, 400),
        ({"host": "localhost@evil.example"}, 400),
        ({"host": "localhost:8000:1"}, 400),
        ({"host": "localhost:99999"}, 400),
        ({"host": ""}, 400),
        ({"host": "[::1::2]:8000"}, 400),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://localhost:3000"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "file://localhost:8000"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
    ],
)
def test_a_foreign_host_or_origin_gets_nothing(make_client, page, headers, status):
    with make_client() as client:
        for method in ("GET", "POST", "OPTIONS"):
            answer = client.request(method, page, headers=headers)
            assert answer.status_code == status
            assert "access-control-allow-origin" not in answer.headers
            assert answer.json()["error"] in ("unknown_host", "foreign_origin")


def test_loopback_names_and_declared_hosts_are_answered(make_client):
    with make_client(allowed_hosts=("Risk.Hospital.example",)) as client:
        for host in ("localhost:8000", "127.0.0.1", "[::1]:8000", "risk.hospital.example:443"):
            assert client.get("/ready", headers={"host": host}).status_code == 200
        own_page = {"host": "risk.hospital.example", "origin": "https://risk.hospital.example"}
        assert client.get("/ready", headers=own_page).status_code == 200


def test_only_clients_with_a_token_are_answered(make_client, token_file, body, capsys):
    with make_client(token_file=token_file) as client:
        for page in sorted(set(PAGES) - {"/health", "/ready"}):
            answer = client.get(page)
            assert (answer.status_code, answer.json()["error"]) == (401, "unauthorized")
        for value in ("", TOKEN, f"Basic {TOKEN}", "Bearer", f"Bearer {TOKEN}x"):
            headers = {**JSON, "authorization": value}
            assert client.post("/predict", content=body, headers=headers).status_code == 401
        assert client.get("/health").json() == {"status": "ok"}
        assert client.get("/ready").status_code == 200
        capsys.readouterr()
        client.headers["authorization"] = f"Bearer {TOKEN}"
        assert client.post("/predict", content=body, headers=JSON).status_code == 200
        assert client.get("/health").json()["champion"]["version"] == 3
    predicted, health = logged_requests(capsys)
    assert predicted["client"] == health["client"] == "ward-7"


def test_an_answer_can_be_traced_by_its_line_in_the_log(make_client, ward, body, capsys):
    with make_client() as client:
        own_id = {**JSON, "x-request-id": "ehr-7.42_a"}
        answer = client.post("/predict", content=body, headers=own_id)
        assert answer.headers["x-request-id"] == "ehr-7.42_a"
        rejected = client.post("/predict", content=b"{", headers={**JSON, "x-request-id": "a b"})
        assert len(rejected.headers["x-request-id"]) == 32
        client.get("/predict/12345?name=Ada")
    text = capsys.readouterr().err
    assert "12345" not in text
    assert "Ada" not in text
    lines = [json.loads(line) for line in text.splitlines()]
    traced, wrong, unknown = [line for line in lines if line["event"] == "request"]
    assert traced["request_id"] == "ehr-7.42_a"
    assert traced["body_sha256"] == hashlib.sha256(body).hexdigest()
    assert (traced["status"], traced["version"], traced["stays"]) == (200, 3, 2)
    assert (traced["client"], traced["rejection"]) == (None, None)
    assert traced["seconds"] > 0
    assert (wrong["status"], wrong["rejection"], wrong["version"]) == (400, "not_json", None)
    assert wrong["request_id"] == rejected.headers["x-request-id"]
    assert (unknown["path"], unknown["status"]) == ("other", 404)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('{"stays": [], "stays": []}', "stays"),
        ('{"stays": [{"stay_id": 1, "age": 67, "age": 30}]}', "age"),
        ('{"stays": [{"stay_id": 1, "age": 67, "\\u0061ge": 30}]}', "age"),
        ('{"stays": {"stay_id": [1], "age": [67], "age": [30]}}', "age"),
        ('{"stays": [{"stay_id": 1, "age": {"a": 1, "a": 2}}]}', "a"),
        ('{"stays": [{"stay_id": 1, "sex": "\u00e9", "age": null, "age": 30}]}', "age"),
    ],
)
def test_a_key_that_is_sent_twice_is_rejected(make_client, text, key):
    with make_client() as client:
        answer = client.post("/predict", content=text.encode(), headers=JSON)
    assert answer.status_code == 422
    (problem,) = answer.json()["problems"]
    assert (problem["rule"], problem["column"]) == ("duplicate_key", key)
    assert repr(key) in problem["message"]


def test_a_duplicate_in_an_otherwise_usual_body_is_rejected(make_client, body):
    """The usual bodies are parsed by Arrow, which must refuse duplicates, too."""
    twice = body.replace(b'"age":', b'"age":1,"age":', 1)
    assert twice != body
    with make_client() as client:
        answer = client.post("/predict", content=twice, headers=JSON)
    assert answer.json()["problems"][0]["rule"] == "duplicate_key"


def test_a_redirect_does_not_repeat_the_host(make_client):
    with make_client(allowed_hosts=("risk.example",)) as client:
        for page in ("/predict/", "/health/", "/docs/"):
            answer = client.get(page, headers={"host": "risk.example"}, follow_redirects=False)
            assert answer.status_code == 404
            assert "location" not in answer.headers


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "ward.example"])
def test_other_machines_need_tokens_or_the_explicit_choice(host, token_file):
    with pytest.raises(ValueError, match="--token-file"):
        ServeConfig(name="m", host=host)
    ServeConfig(name="m", host=host, no_auth=True)
    ServeConfig(name="m", host=host, token_file=token_file)


@pytest.mark.parametrize(
    "settings", [{"certfile": "a"}, {"keyfile": "a"}, {"token_file": "a", "no_auth": True}]
)
def test_options_that_do_not_go_together_are_refused(settings):
    with pytest.raises(ValueError, match="--"):
        ServeConfig(name="m", **settings)


def test_a_server_does_not_start_with_a_token_file_that_others_can_read(make_client, token_file):
    token_file.chmod(0o644)
    with pytest.raises(UsageError, match="other users"):
        make_client(token_file=token_file)
