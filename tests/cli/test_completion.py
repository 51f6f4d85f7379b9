"""Completion in shells, asked as the scripts of the shells ask."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from flowsheet.cli import main


def complete(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: str):
    monkeypatch.setenv("_FLOWSHEET_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(line.count(" ")))
    with pytest.raises(SystemExit):
        main([])
    return [line.partition(",")[2] for line in capsys.readouterr().out.split()]


@pytest.mark.parametrize(
    ("line", "completion"),
    [
        ("flowsheet prom", ["promote"]),
        ("flowsheet run dem", ["demo"]),
        ("flowsheet ingest mim", ["mimic3", "mimic4"]),
        ("flowsheet ingest cl", ["clif"]),
        ("flowsheet ls datab", ["databases"]),
        ("flowsheet ls var", ["variables"]),
        ("flowsheet run demo tuning=n", ["tuning=none"]),
        ("flowsheet run demo tuning.tri", ["tuning.trials="]),
        ("flowsheet run demo models.lst", ["models.lstm."]),
        ("flowsheet run demo models.lstm.params.hid", ["models.lstm.params.hidden="]),
        ("flowsheet ingest mimic3 tun", []),
        ("flowsheet run demo nonsense.x.y", []),
        ("flowsheet promote dem", []),
    ],
)
def test_names_and_keys_are_completed(line, completion, monkeypatch, capsys):
    assert complete(monkeypatch, capsys, line) == completion


@pytest.mark.usefixtures("registered")
def test_registered_models_are_completed(monkeypatch, capsys):
    found = complete(monkeypatch, capsys, "flowsheet score dem")
    assert found == ["demo-lstm", "demo-lstm/1", "demo-lstm@champion"]


@pytest.fixture
def registered(flowsheet_home: Path) -> None:
    """The tables of MLflow that name registered models."""
    (flowsheet_home / "mlflow").mkdir(parents=True)
    with sqlite3.connect(flowsheet_home / "mlflow" / "mlflow.db") as database:
        database.executescript(
            """
            CREATE TABLE registered_models (name);
            CREATE TABLE model_versions (name, version, current_stage);
            CREATE TABLE registered_model_aliases (name, alias, version);
            INSERT INTO registered_models VALUES ('demo-lstm');
            INSERT INTO model_versions VALUES ('demo-lstm', 1, 'None');
            INSERT INTO registered_model_aliases VALUES ('demo-lstm', 'champion', 1);
            """
        )
    database.close()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_is_printed(shell, capsys):
    main(["completion", shell])
    assert "_FLOWSHEET_COMPLETE" in capsys.readouterr().out
