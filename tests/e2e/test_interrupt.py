"""Ctrl-C at a real terminal stops every command, and leaves no process."""

from __future__ import annotations

import os
import pty
import select
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from flowsheet.tracking import model_registry
from tests.e2e.conftest import LONG_TRAINING, flowsheet_command
from tests.prefect_database import copy_database

CTRL_C = b"\x03"


@dataclass
class Terminal:
    """A command that runs in a terminal of its own."""

    pid: int
    descriptor: int
    output: str = ""

    @classmethod
    def start(cls, home: Path, *arguments: str) -> Terminal:
        command, environment = flowsheet_command(home, *arguments)
        environment["TERM"] = "xterm"  # the display of a run needs more than a dumb terminal
        pid, descriptor = pty.fork()
        if pid == 0:
            os.execve(command[0], command, environment)
        return cls(pid, descriptor)

    def read_until(self, text: str | None, timeout: float = 300) -> None:
        """Read the output until ``text`` appears in it, or until the command ends."""
        deadline = time.monotonic() + timeout
        while text is None or text not in self.output:
            assert time.monotonic() < deadline, self.output
            if not select.select([self.descriptor], [], [], 0.2)[0]:
                continue
            try:
                data = os.read(self.descriptor, 1 << 16)
            except OSError:  # the command has closed its terminal
                data = b""
            if not data:
                assert text is None, self.output
                return
            self.output += data.decode(errors="replace")

    def press_ctrl_c(self, times: int) -> None:
        for _ in range(times):
            os.write(self.descriptor, CTRL_C)
            time.sleep(0.2)

    def wait(self) -> int:
        """Wait for the end; returns the exit code."""
        self.read_until(None)
        _, status = os.waitpid(self.pid, 0)
        os.close(self.descriptor)
        return os.waitstatus_to_exitcode(status)


def processes_with_home(home: Path) -> list[str]:
    """Command lines of the processes whose state folder is ``home``."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes()
            command = (process / "cmdline").read_bytes()
        except OSError:  # it has ended, or belongs to somebody else
            continue
        if f"FLOWSHEET_HOME={home}\0".encode() in environment:
            found.append(command.replace(b"\0", b" ").decode())
    return found


def wait_until_no_process_is_left(home: Path) -> None:
    deadline = time.monotonic() + 10
    while processes_with_home(home):
        assert time.monotonic() < deadline, processes_with_home(home)
        time.sleep(0.1)


@pytest.mark.server
@pytest.mark.parametrize(
    ("arguments", "begun", "times"),
    [
        pytest.param(["run", *LONG_TRAINING], "of 1000", 1, marks=pytest.mark.slow),
        (["run", *LONG_TRAINING], "of 1000", 2),
        pytest.param(["run", *LONG_TRAINING], "experiment demo", 1, marks=pytest.mark.slow),
    ],
)
def test_ctrl_c_stops_an_experiment(
    tmp_path: Path, prefect_database: Path, arguments: list[str], begun: str, times: int
):
    home = tmp_path / "home"
    copy_database(prefect_database, home)
    terminal = Terminal.start(home, *arguments)
    terminal.read_until(begun)
    terminal.press_ctrl_c(times)
    assert terminal.wait() == 130
    assert "stopped; start it again to go on" in terminal.output
    assert "Traceback" not in terminal.output
    assert "leaked" not in terminal.output  # which Python says once all processes have ended
    wait_until_no_process_is_left(home)


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.parametrize(
    ("arguments", "begun", "code"),
    [
        (["ingest", "simulated", "cohort.options.stays=50000"], "stays", 130),
        (["ui", "--mlflow-port", "5791", "--prefect-port", "5792"], "Ctrl-C to stop", 0),
        (["compare", "demo-lstm/1", "demo-logistic_regression/1"], "", 130),
        (["rerun", "latest"], "[ingest]", 130),
        (["score", "demo-lstm/1", "WARD"], "", 130),
        (["serve", "demo-lstm@served", "--port", "5793"], "Ctrl-C to stop", 0),
        (["serve", "demo-lstm@served", "--port", "5793"], "", 130),
    ],
)
def test_ctrl_c_stops_every_other_command(
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    begun: str,
    code: int,
):
    home = tmp_path / "home"
    shutil.copytree(finished, home)
    (ward,) = (home / "store" / "extract").iterdir()
    arguments = [str(ward) if argument == "WARD" else argument for argument in arguments]
    if arguments[0] == "serve":
        monkeypatch.setenv("FLOWSHEET_HOME", str(home))
        model_registry.set_alias("demo-lstm", "served", 1)
    terminal = Terminal.start(home, *arguments)
    terminal.read_until(begun)
    if not begun:
        time.sleep(2)  # it prints nothing while it works
    terminal.press_ctrl_c(2)
    assert terminal.wait() == code
    assert "Traceback" not in terminal.output
    wait_until_no_process_is_left(home)


def test_ctrl_c_stops_a_command_without_a_server(tmp_path: Path):
    home = tmp_path / "home"
    raw = tmp_path / "raw"
    arguments = ["simulate", str(raw), "--as", "mimic3", "--stays", "20000"]
    terminal = Terminal.start(home, *arguments)
    terminal.read_until("stays")
    terminal.press_ctrl_c(2)
    assert terminal.wait() == 130
    assert "Traceback" not in terminal.output
    assert not raw.exists()
