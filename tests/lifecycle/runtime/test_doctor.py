"""``flowsheet doctor`` finds what hurts, and changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flowsheet.cli import main
from flowsheet.lifecycle.runtime.doctor import Check, examine
from tests.documented_keys import check_documented


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch):
    names = ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "FLOWSHEET_STORE", "FLOWSHEET_CONF")
    for name in (*names, "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)


def check(name: str) -> Check:
    (found,) = (check for check in examine() if check.name == name)
    return found


def test_a_machine_without_a_home_is_in_order_and_stays_as_it_is(flowsheet_home: Path):
    assert not [check for check in examine() if check.status == "wrong"]
    assert check("FLOWSHEET_HOME").status == "note"
    assert not flowsheet_home.exists()


def test_a_private_home_is_in_order(flowsheet_home: Path):
    flowsheet_home.mkdir(mode=0o700)
    assert check("FLOWSHEET_HOME").status == "ok"


@pytest.mark.parametrize("variable", ["FLOWSHEET_HOME", "FLOWSHEET_STORE"])
@pytest.mark.parametrize("mode", [0o755, 0o750, 0o701])
def test_a_folder_that_others_can_enter_is_wrong(tmp_path, monkeypatch, variable, mode):
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(mode)
    monkeypatch.setenv(variable, str(folder))
    found = check(variable)
    assert (found.status, found.todo) == ("wrong", f"chmod 700 {folder}")
    assert folder.stat().st_mode & 0o777 == mode


def test_a_shared_folder_is_wrong(monkeypatch, tmp_path):
    tmp_path.chmod(0o1777)
    monkeypatch.setenv("FLOWSHEET_HOME", str(tmp_path))
    assert check("FLOWSHEET_HOME").todo == "set FLOWSHEET_HOME to a folder of your own"


@pytest.mark.parametrize("name", ["PREFECT_API_URL", "MLFLOW_TRACKING_URI"])
def test_a_server_that_does_not_answer_is_named_without_its_password(monkeypatch, name):
    monkeypatch.setenv(name, "http://ada:hush@127.0.0.1:9/api")
    found = check(name)
    assert found.status == "wrong"
    assert "127.0.0.1:9" in found.detail
    assert "hush" not in found.detail


def test_a_proxy_is_noted(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://ada:hush@proxy:3128")
    assert check("HTTP_PROXY").status == "note"
    assert "hush" not in check("HTTP_PROXY").detail


def test_a_name_that_cannot_be_used_is_wrong(monkeypatch, tmp_path):
    monkeypatch.setenv("FLOWSHEET_HOME", str(tmp_path / "a?b"))
    assert check("FLOWSHEET_HOME").status == "wrong"


def test_the_command_prints_json_and_exits_with_1_if_something_is_wrong(
    flowsheet_home, monkeypatch, capsys
):
    main(["doctor", "--json"])
    printed = json.loads(capsys.readouterr().out)
    assert printed["ok"]
    check_documented("doctor", printed)
    monkeypatch.setenv("FLOWSHEET_CONF", str(flowsheet_home / "nowhere"))
    with pytest.raises(SystemExit) as ended:
        main(["doctor"])
    assert ended.value.code == 1
    printed = capsys.readouterr()
    assert "wrong  FLOWSHEET_CONF" in printed.out
    assert "FLOWSHEET_CONF" in printed.err
