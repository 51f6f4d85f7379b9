"""A URL is never taken for a local path: it works, or is refused in words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from flowsheet.cli import cli, main, options


def _list_path_types(command: click.Command, name: str = "") -> Iterator[tuple[str, click.Path]]:
    if isinstance(command, click.Group):
        for inner in command.list_commands(click.Context(command)):
            found = command.get_command(click.Context(command), inner)
            assert found is not None
            yield from _list_path_types(found, f"{name} {inner}")
    for parameter in command.params:
        if isinstance(parameter.type, click.Path):
            yield f"{name} {parameter.name}", parameter.type


def test_every_path_of_the_command_line_knows_urls():
    types = dict(_list_path_types(cli))
    assert len(types) > 10
    plain = [
        name
        for name, kind in types.items()
        if not isinstance(kind, options.LocalPath | options.LocationPath)
    ]
    assert not plain, "use options.LOCAL_PATH or options.LOCATION"


@pytest.mark.parametrize(
    "arguments",
    [
        ["init", "s3://hospital/study"],
        ["report", "--out", "s3://hospital/report.html"],
        ["schema", "--templates", "gs://hospital/tables"],
        ["simulate", "s3://hospital/raw", "--as", "mimic3"],
        ["simulate", "https://hospital/ward"],
        ["simulate", "file:///tmp/ward"],
        ["validate", "s3:///ward"],
        ["ingest", "mimic3", "cohort.path=s3://hospital/mimic3"],
        ["ingest", "mimic3", "cohort.path=https://hospital/mimic3"],
        ["ingest", "simulated_small", "--out", "s3://key:secret@hospital/ward"],
    ],
)
def test_what_cannot_be_in_an_object_store_is_refused(
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert "do:" in error
    assert "secret" not in error
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(":")]


@pytest.mark.parametrize("home", ["s3://hospital/home", "file:///tmp/home", "gs://hospital"])
def test_the_state_folder_is_local(
    home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLOWSHEET_HOME", home)
    with pytest.raises(SystemExit) as stopped:
        main(["ingest", "simulated_small"])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert "FLOWSHEET_HOME is a URL" in error
    assert "FLOWSHEET_STORE" in error
    assert not list(tmp_path.iterdir())
