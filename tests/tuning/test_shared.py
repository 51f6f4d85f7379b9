"""Several processes tune one study on Postgres, and one of them is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from flowsheet.errors import Unreachable, UsageError
from flowsheet.tuning.journal import open_database
from tests.postgres import postgres

TOY = Path(__file__).with_name("toy.py")
TRIALS = 20


@pytest.fixture(scope="module")
def url():
    with postgres() as cluster:
        yield cluster.create_database("optuna")


def start(folder: Path, name: str, url: str, delay: float) -> subprocess.Popen[bytes]:
    toy = {
        "TOY_DELAY": str(delay),
        "TOY_LOG": str(folder / f"{name}.log"),
        "TOY_URL": url,
        "TOY_TRIALS": str(TRIALS),
    }
    command = [sys.executable, str(TOY), str(folder / "work"), str(folder / f"{name}.json")]
    return subprocess.Popen(command, env={**os.environ, **toy})


def fits(folder: Path, what: str) -> list[str]:
    """The parameters of the fits that have started or ended."""
    lines = [
        json.loads(line)
        for log in sorted(folder.glob("*.log"))
        for line in log.read_text().splitlines()
    ]
    return [json.dumps(params) for kind, params, _ in lines if kind == what]


def await_fits(folder: Path, count: int) -> None:
    deadline = time.monotonic() + 120
    while len(fits(folder, "end")) < count:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def outcome(folder: Path, name: str) -> dict:
    return json.loads((folder / f"{name}.json").read_text())


@pytest.mark.server
@pytest.mark.slow
def test_two_workers_finish_a_study_though_one_is_killed(tmp_path, url):
    workers = {name: start(tmp_path, name, url, 0.1) for name in ("one", "two")}
    await_fits(tmp_path, 4)
    workers["two"].kill()  # SIGKILL, in the middle of a fit
    workers["two"].wait()
    assert workers["one"].wait(timeout=300) == 0
    done = outcome(tmp_path, "one")
    assert [trial["number"] for trial in done["trials"]] == list(range(TRIALS))
    assert {trial["state"] for trial in done["trials"]} <= {"complete", "pruned"}
    begun = Counter(fits(tmp_path, "start"))
    assert (
        sum(begun.values()) - len(begun) <= 1
    )  # what was cut off was begun again, and nothing else
    assert len({json.dumps(trial["params"]) for trial in done["trials"]}) >= TRIALS - 1
    best = max((t for t in done["trials"] if t["state"] == "complete"), key=lambda t: t["value"])
    assert done["model"] == best["params"]


@pytest.mark.server
def test_workers_share_the_trials_and_agree_on_the_end(tmp_path, url):
    workers = {name: start(tmp_path, name, url, 0.05) for name in ("one", "two")}
    assert [worker.wait(timeout=300) for worker in workers.values()] == [0, 0]
    one, two = (outcome(tmp_path, name) for name in workers)
    assert one == two
    assert len(one["trials"]) == TRIALS
    shares = [(tmp_path / f"{name}.log").read_text().count("start") for name in workers]
    assert min(shares) >= 3
    assert len(fits(tmp_path, "start")) == len(set(fits(tmp_path, "start")))


def test_no_message_shows_the_password():
    pytest.importorskip("psycopg", reason="flowsheet[postgres] is not installed")
    with pytest.raises(Unreachable) as caught:
        open_database("postgresql+psycopg://optuna:hunter22@127.0.0.1:1/optuna")
    assert "hunter22" not in str(caught.value)
    assert caught.value.__cause__ is None
    with pytest.raises(UsageError) as refused:
        open_database("hunter22 is no URL")
    assert "hunter22" not in str(refused.value)
