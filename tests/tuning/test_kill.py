"""A study that is killed with SIGKILL, again and again, ends where the undisturbed one ends."""

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
    return subprocess.Popen(
        [sys.executable, str(TOY), str(folder), str(folder / "result.json")], env=env
    )


def run_whole(folder: Path) -> dict:
    folder.mkdir()
    assert start(folder, 0).wait(timeout=120) == 0
    return json.loads((folder / "result.json").read_text())


def run_killed(folder: Path, delay: float, kills: int, rng: random.Random) -> tuple[dict, int]:
    folder.mkdir()
    hits = 0
    while True:
        process = start(folder, delay)
        if hits < kills:
            before = len(log(folder))
            while process.poll() is None and len(log(folder)) == before:
                time.sleep(0.01)  # until this process has begun or ended a fit
            time.sleep(rng.uniform(0, 6 * delay))
            process.kill()
            hits += process.wait() != 0
        elif process.wait(timeout=120) == 0:
            break
        if (folder / "result.json").exists():
            break
    return json.loads((folder / "result.json").read_text()), hits


def log(folder: Path) -> list[list]:
    path = folder / "log"
    return (
        [json.loads(line) for line in path.read_text().splitlines() if line.endswith("]")]
        if path.exists()
        else []
    )


def compare(tmp_path: Path, kills: int, seed: int) -> None:
    whole = run_whole(tmp_path / "whole")
    killed, hits = run_killed(tmp_path / "killed", 0.05, kills, random.Random(seed))
    assert hits >= 1
    assert killed == whole
    starts = [json.dumps(params) for what, params, _ in log(tmp_path / "killed") if what == "start"]
    # each kill can make one fit begin again, never one that was finished
    assert len(starts) <= len({*starts}) + hits
    assert {*starts} == {
        json.dumps(params) for what, params, _ in log(tmp_path / "whole") if what == "start"
    }


def test_a_killed_study_ends_as_the_undisturbed_one(tmp_path):
    compare(tmp_path, kills=2, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_killed_many_times(tmp_path, seed):
    compare(tmp_path, kills=8, seed=seed)
