"""A study that is killed with SIGKILL repeatedly gives the same result as an uninterrupted one."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

TOY = Path(__file__).with_name("toy.py")


def start(folder: Path, delay: float) -> subprocess.Popen[bytes]:
    env = {**os.environ, "TOY_DELAY": str(delay), "TOY_LOG": str(folder / "log")}
    command = [sys.executable, str(TOY), str(folder), str(folder / "result.json")]
    return subprocess.Popen(command, env=env)


def read_result(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))


def run_uninterrupted(folder: Path) -> dict:
    folder.mkdir()
    assert start(folder, 0).wait(timeout=120) == 0
    return read_result(folder)


def run_with_kills(folder: Path, delay: float, kills: int, rng: random.Random) -> tuple[dict, int]:
    """The result, and the number of processes that were killed before their end."""
    folder.mkdir()
    killed = 0
    while not (folder / "result.json").exists():
        process = start(folder, delay)
        if killed < kills:
            wait_for_fit(process, folder)
            time.sleep(rng.uniform(0, 6 * delay))
            process.kill()
            killed += process.wait() != 0
        else:
            process.wait(timeout=120)
    return read_result(folder), killed


def wait_for_fit(process: subprocess.Popen[bytes], folder: Path) -> None:
    """Until this process has started or ended a fit, or has ended."""
    lines = len(read_log(folder))
    while process.poll() is None and len(read_log(folder)) == lines:
        time.sleep(0.01)


def read_log(folder: Path) -> list[list]:
    path = folder / "log"
    if not path.exists():
        return []
    return [
        json.loads(line)
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.endswith("]")
    ]


def started_fits(folder: Path) -> list[str]:
    """The parameters of the fits that were started."""
    return [json.dumps(params) for event, params, _ in read_log(folder) if event == "start"]


def check_kills_do_not_matter(tmp_path: Path, kills: int, seed: int) -> None:
    expected = run_uninterrupted(tmp_path / "uninterrupted")
    result, killed = run_with_kills(tmp_path / "killed", 0.05, kills, random.Random(seed))
    assert killed >= 1
    assert result == expected
    fits = started_fits(tmp_path / "killed")
    # Each kill can repeat one fit, but never one that was finished.
    assert len(fits) <= len(set(fits)) + killed
    assert set(fits) == set(started_fits(tmp_path / "uninterrupted"))


def test_a_killed_study_gives_the_same_result(tmp_path):
    check_kills_do_not_matter(tmp_path, kills=2, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_study_that_is_killed_many_times_gives_the_same_result(tmp_path, seed):
    check_kills_do_not_matter(tmp_path, kills=8, seed=seed)
