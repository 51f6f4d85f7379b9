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

from tests.postgres import postgres

TOY = Path(__file__).with_name("toy.py")
TRIALS = 20


@pytest.fixture(scope="module")
def url():
    with postgres() as cluster:
        yield cluster.create_database("optuna")


def start(folder: Path, name: str, url: str, delay: float) -> subprocess.Popen[bytes]:
    settings = {
        "TOY_DELAY": str(delay),
        "TOY_LOG": str(folder / f"{name}.log"),
        "TOY_URL": url,
        "TOY_TRIALS": str(TRIALS),
    }
    command = [sys.executable, str(TOY), str(folder / "work"), str(folder / f"{name}.json")]
    return subprocess.Popen(command, env={**os.environ, **settings})


def fits(folder: Path, event: str) -> list[str]:
    """The parameters of the fits that have started or ended."""
    parameters = []
    for log in sorted(folder.glob("*.log")):
        for line in log.read_text(encoding="utf-8").splitlines():
            line_event, params, _ = json.loads(line)
            if line_event == event:
                parameters.append(json.dumps(params))
    return parameters


def wait_for_fits(folder: Path, count: int) -> None:
    deadline = time.monotonic() + 120
    while len(fits(folder, "end")) < count:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def read_result(folder: Path, name: str) -> dict:
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.server
@pytest.mark.slow
def test_two_workers_finish_a_study_although_one_is_killed(tmp_path, url):
    workers = {name: start(tmp_path, name, url, 0.1) for name in ("one", "two")}
    wait_for_fits(tmp_path, 4)
    workers["two"].kill()  # SIGKILL, in the middle of a fit
    workers["two"].wait()
    assert workers["one"].wait(timeout=300) == 0
    result = read_result(tmp_path, "one")
    trials = result["trials"]
    assert [trial["number"] for trial in trials] == list(range(TRIALS))
    assert {trial["state"] for trial in trials} <= {"complete", "pruned"}
    started = Counter(fits(tmp_path, "start"))
    assert sum(started.values()) - len(started) <= 1  # only the interrupted fit is repeated
    assert len({json.dumps(trial["params"]) for trial in trials}) >= TRIALS - 1
    complete = [trial for trial in trials if trial["state"] == "complete"]
    assert result["model"] == max(complete, key=lambda trial: trial["value"])["params"]


@pytest.mark.server
def test_workers_share_the_trials_and_get_the_same_result(tmp_path, url):
    workers = {name: start(tmp_path, name, url, 0.05) for name in ("one", "two")}
    assert [worker.wait(timeout=300) for worker in workers.values()] == [0, 0]
    one, two = (read_result(tmp_path, name) for name in workers)
    assert one == two
    assert len(one["trials"]) == TRIALS
    fits_of_workers = [
        (tmp_path / f"{name}.log").read_text(encoding="utf-8").count("start") for name in workers
    ]
    assert min(fits_of_workers) >= 3
    started = fits(tmp_path, "start")
    assert len(started) == len(set(started))
