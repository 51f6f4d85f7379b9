from __future__ import annotations

import os
import subprocess
import sys

import pytest

from flowsheet.cli import cli, main
from flowsheet.errors import CheckFailed, UsageError


def test_help_takes_less_than_half_a_second_of_processor_time():
    before = os.times()
    command = [sys.executable, "-m", "flowsheet", "--help"]
    subprocess.run(command, check=True, capture_output=True)
    after = os.times()
    used = after.children_user + after.children_system
    assert used - before.children_user - before.children_system < 0.5


@pytest.mark.parametrize("command", sorted(cli.commands))
def test_every_command_has_help(command, capsys):
    main([command, "--help"])
    assert capsys.readouterr().out.startswith(f"Usage: flowsheet {command}")


def test_a_mistyped_command_is_answered_with_the_nearest_one(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["promot"])
    assert ended.value.code == 2
    assert 'did you mean "promote"?' in capsys.readouterr().err


@pytest.mark.parametrize("command", ["promote", "monitor"])
def test_an_unknown_config_is_answered_with_the_known_ones(command, tmp_path, capsys):
    arguments = {"promote": ["m", "--reason", "r"], "monitor": ["m", str(tmp_path)]}
    with pytest.raises(SystemExit) as ended:
        main([command, *arguments[command], "--config", "standart"])
    assert ended.value.code == 2
    assert 'did you mean "standard"?' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (UsageError("no such file", "a.yaml", "name another"), 2, "error: no such file"),
        (CheckFailed("3 failures"), 1, "error: 3 failures"),
        (KeyboardInterrupt(), 130, "stopped; start it again to go on"),
        (ValueError("first line\nsecond line"), 1, "error: ValueError: first line\n"),
        (OSError(28, "No space left on device"), 1, "error: OSError: No space left on device"),
    ],
)
def test_an_error_sets_the_exit_code_and_prints_no_traceback(
    error, code, text, capsys, monkeypatch
):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(cli, "main", fail)
    monkeypatch.setattr("signal.signal", lambda *_: None)  # this process stays interruptible
    with pytest.raises(SystemExit) as ended:
        main(["ls", "runs"])
    assert ended.value.code == code
    printed = capsys.readouterr().err
    assert text in printed
    assert "Traceback" not in printed


def test_the_traceback_of_an_unexpected_error_is_kept_in_a_file(
    flowsheet_home, capsys, monkeypatch
):
    def fail(*_, **__):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(cli, "main", fail)
    with pytest.raises(SystemExit):
        main(["ls", "runs"])
    log = flowsheet_home / "logs" / "error.log"
    assert f"see {log}" in capsys.readouterr().err
    assert "ZeroDivisionError: division by zero" in log.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "error: missing argument 'EXPERIMENT'"),
        (["ls", "--frobnicate"], "error: no such option '--frobnicate'"),
        (["promot"], "error: there is no command 'promot'"),
        (["validate", "no-such-folder"], "error: there is no such folder"),
        (["ls", "modles"], "error: there is nothing called 'modles' to list"),
    ],
)
def test_all_errors_have_one_form(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith(message)
    assert "\n  do:    " in printed
    assert "Usage:" not in printed


PRINT_COLOURS = """
import sys
import click
from flowsheet.cli import main
click.utils.should_strip_ansi = lambda *_: False  # as on a terminal
click._compat.should_strip_ansi = lambda *_: False
main(["ls", "frob"])
"""


@pytest.mark.parametrize(("no_color", "is_plain"), [("1", True), ("", False)])
def test_no_color_is_obeyed(no_color, is_plain):
    environment = {**os.environ, "NO_COLOR": no_color}
    command = [sys.executable, "-c", PRINT_COLOURS]
    printed = subprocess.run(command, env=environment, capture_output=True, check=False).stderr
    assert b"nothing called" in printed
    assert (b"\x1b" not in printed) is is_plain


def test_a_reader_that_stops_early_is_no_error(tmp_path):
    command = [sys.executable, "-m", "flowsheet", "ls", "variables"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        errors = process.stderr.read()
    assert process.returncode == 0
    assert errors == b""


def test_an_argument_that_the_locale_cannot_decode_is_refused(capsys):
    with pytest.raises(SystemExit) as end:
        main(["rollback", "demo-lstm", "--reason", "\udcc3\udc9cbung"])
    assert end.value.code == 2
    assert "LC_ALL=C.UTF-8" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["init", "validate"])
def test_a_name_that_is_too_long_for_a_file_is_refused(command, capsys, flowsheet_home):
    with pytest.raises(SystemExit) as ended:
        main([command, "x" * 5000])
    assert ended.value.code == 2
    assert "too long" in capsys.readouterr().err
    assert not (flowsheet_home / "logs").exists()
