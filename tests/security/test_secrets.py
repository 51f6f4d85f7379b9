"""Passwords and tokens are neither printed nor written to a file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flowsheet.errors import mask_secrets
from flowsheet.tracking.store import tracking_uri
from tests.security.commands import SMALL_EXPERIMENT, run_flowsheet

SECRETS = {
    "MLFLOW_TRACKING_URI": "http://ada:hush-in-mlflow@127.0.0.1:1",
    "FLOWSHEET_OPTUNA_URL": "postgresql+psycopg://optuna:hush-in-optuna@127.0.0.1:1/optuna",
    "PREFECT_API_URL": "http://ada:hush-in-prefect@127.0.0.1:1/api",
    "PREFECT_API_AUTH_STRING": "ada:hush-in-auth",
    "MLFLOW_TRACKING_TOKEN": "hush-in-token",
    "AWS_SECRET_ACCESS_KEY": "hush-in-aws",
    "POSTGRES_PASSWORD": "hush-in-postgres",
}
"""Variables of a user; each value contains the word hush."""

NO_RETRIES = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "PREFECT_CLIENT_MAX_RETRIES": "0"}


def find_leaks(folder: Path, *texts: str) -> list[str]:
    """Where a secret is: in a text, or in a file, databases and artifacts included."""
    leaks = [text for text in texts if "hush" in text]
    for file in folder.rglob("*"):
        if file.is_file() and (b"hush" in file.read_bytes() or "hush" in file.name):
            leaks.append(str(file.relative_to(folder)))
    return leaks


@pytest.mark.parametrize(
    "arguments",
    [
        ("ls", "runs"),
        ("ls", "registry"),
        ("ls", "decisions"),
        ("compare", "0123456789abcdef", "demo-lstm/1"),
        ("promote", "demo-lstm", "--reason", "why not"),
        ("card", "demo-lstm"),
        ("serve", "demo-lstm"),
    ],
    ids=" ".join,
)
def test_a_server_that_does_not_answer_is_named_without_its_password(arguments, tmp_path):
    done = run_flowsheet(tmp_path / "home", *arguments, env={**SECRETS, **NO_RETRIES})
    assert done.returncode != 0
    assert "127.0.0.1" in done.stderr
    assert find_leaks(tmp_path, done.stdout, done.stderr) == []


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.parametrize(
    ("unreachable", "omitted"),
    [
        ("MLFLOW_TRACKING_URI", {"PREFECT_API_URL", "PREFECT_API_AUTH_STRING"}),
        ("PREFECT_API_URL", {"MLFLOW_TRACKING_URI"}),
    ],
)
def test_a_run_that_fails_leaves_no_secret_behind(unreachable, omitted, tmp_path):
    omitted = {*omitted, "FLOWSHEET_OPTUNA_URL"}
    secrets = {name: value for name, value in SECRETS.items() if name not in omitted}
    assert unreachable in secrets
    env = {**secrets, **NO_RETRIES}
    done = run_flowsheet(tmp_path / "home", "run", *SMALL_EXPERIMENT, env=env)
    assert done.returncode != 0
    assert find_leaks(tmp_path, done.stdout, done.stderr) == []


@pytest.mark.slow
@pytest.mark.server
def test_a_run_that_succeeds_records_no_secret(tmp_path):
    names = ("MLFLOW_TRACKING_TOKEN", "AWS_SECRET_ACCESS_KEY", "POSTGRES_PASSWORD")
    env = {name: SECRETS[name] for name in names}
    done = run_flowsheet(tmp_path / "home", "run", *SMALL_EXPERIMENT, env=env)
    assert done.returncode == 0, done.stderr
    assert find_leaks(tmp_path, done.stdout, done.stderr) == []


def test_user_and_password_of_the_tracking_server_are_moved_out_of_its_url(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "")
    url = "https://ada:hush%40home@mlflow.example.org:5000/path"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
    assert tracking_uri() == "https://mlflow.example.org:5000/path"
    assert tracking_uri() == os.environ["MLFLOW_TRACKING_URI"]
    assert os.environ["MLFLOW_TRACKING_USERNAME"] == "ada"
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == "hush@home"


def test_values_of_variables_named_like_secrets_are_masked(monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "open sesame")
    monkeypatch.setenv("SHORT_TOKEN", "a")
    text = "say open sesame to http://ada:pass@word@host/x@y"
    assert mask_secrets(text) == "say *** to http://***@host/x@y"
