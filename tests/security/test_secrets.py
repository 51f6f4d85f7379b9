"""Passwords and tokens are neither printed nor written to a file."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from flowsheet.errors import mask_secrets
from flowsheet.progress import report
from flowsheet.serving.model_slot import ModelSlot
from flowsheet.serving.structured_logging import StructuredHandler
from flowsheet.tracking import model_registry
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


@pytest.mark.parametrize(
    "name",
    [
        *("AZURE_STORAGE_ACCESS_KEY", "SSH_KEY", "DB_PASS", "DB_PWD", "PGPASSWORD", "HF_TOKEN"),
        *("API_SECRET", "KEY_PASSPHRASE", "X_API_KEYS", "AZURE_STORAGE_SAS", "db_password"),
    ],
)
@pytest.mark.parametrize("value", ["open sesame", "a/b:c@d", "x7", "1234"])
def test_the_value_of_a_secret_variable_is_masked(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert mask_secrets(f"say {value}, or '{value}'!") == "say ***, or '***'!"


@pytest.mark.parametrize("name", ["PWD", "OLDPWD", "KEYBOARD", "COMPASS", "MONKEY"])
def test_other_variables_are_not_secrets(monkeypatch, name):
    monkeypatch.setenv(name, "/home/ada")
    assert mask_secrets("in /home/ada") == "in /home/ada"


def test_switches_and_short_values_within_words_are_left(monkeypatch):
    monkeypatch.setenv("USE_TOKEN", "true")
    monkeypatch.setenv("MY_TOKEN", "ab")
    text = "true: 1 of 2 abnormal tabs"
    assert mask_secrets(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "http://ada:hush@host/x",
        "http://ada:hush/hush@host/x",
        "postgresql+psycopg://ada:hush two words@db:5432/x",
        "postgresql://ada:hush@hush@db/x",
        "postgresql://ada:hush?hush#hush@db/x",
        "https://bucket/x?X-Amz-Credential=hush&X-Amz-Signature=hush&part=1",
        "https://blob/x?sv=2020&sig=hush%3D&se=1",
        "https://host/x?token=hush&a=b",
        "https://host/x?access_token=hush",
        "https://host/x?password=hush",
        "https://host/x;api_key=hush",
        "host=db user=ada password=hush dbname=x",
        "host=db password='hush hush' dbname=x",
        "AccountName=ada;AccountKey=hush==;Suffix=x",
        '{"password": "hush", "user": "ada"}',
        "Authorization: Bearer hush.hush-hush",
        "'authorization': 'Basic aHVzaA=='",
    ],
)
def test_secrets_within_texts_are_masked(text):
    masked = mask_secrets(f"no answer from {text} (attempt 1)")
    assert "hush" not in masked
    assert "aHVzaA" not in masked
    assert masked.endswith("(attempt 1)")


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:5000/x: there is no demo-lstm@champion",
        "no answer from http://mlflow:5000, try demo-lstm@champion",
        "http://[::1]:5000/ and ada@example.org",
        "tuning.trials=3 monkey=1 threshold=0.5 tokenizer=x config=y",
        "the token file cannot be read",
    ],
)
def test_texts_without_secrets_are_left(text):
    assert mask_secrets(text) == text


def test_the_server_s_log_and_health_and_progress_lines_are_masked(monkeypatch, capsys):
    monkeypatch.setattr(model_registry, "get_version_by_alias", fail_with_a_secret)
    slot = ModelSlot("demo", "champion")
    slot.refresh()
    report("reading http://ada:hush@host/x")
    StructuredHandler().emit(logging.makeLogRecord({"msg": "token=hush", "name": "x"}))
    assert slot.error == "no answer from http://***@host"
    assert "hush" not in capsys.readouterr().err


def fail_with_a_secret(name: str, alias: str):
    raise OSError("no answer from http://ada:hush@host\nsecond line")


def test_values_of_variables_named_like_secrets_are_masked(monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "open sesame")
    monkeypatch.setenv("SHORT_TOKEN", "a")
    text = "say open sesame to http://ada:pass@word@host/x@y"
    assert mask_secrets(text) == "say *** to http://***@host/x@y"
