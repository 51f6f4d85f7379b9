"""Fifty-five trainings on two workers of 4 GB: none is killed, both work, the figures are the same.

``FLOWSHEET_SMALL_WORKERS_REPORT`` names a file for the counts.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from flowsheet.state.json_files import write_json
from tests.e2e.conftest import run_flowsheet
from tests.e2e.memory_groups import MemoryGroup, memory_group
from tests.e2e.stack import Stack, running_stack

pytestmark = [pytest.mark.server, pytest.mark.slow]
NETWORKS = ("lstm", "gru", "rnn")
MODELS = (*NETWORKS, "gradient_boosting", "mlp", "svm", "naive_bayes", "logistic_regression")
MODELS += ("arx", "ar", "ar1")
TRAININGS_OF_A_MODEL = 6
"""Five folds, and the refit on everybody."""
EXPERIMENT = [
    *("run", "demo", "cohort=simulated_small", "cohort.options.stays=150"),
    f"models=[{','.join(MODELS)}]",
    *("evaluation=cross_validation", "evaluation.resamples=20"),
    *(f"models.{name}.trials=1" for name in MODELS),
    *(f"models.{name}.params.epochs=2" for name in NETWORKS),
    *(f"models.{name}.params.hidden=8" for name in NETWORKS),
]
LIMIT = 4_000_000_000


def start_worker(stack: Stack, group: MemoryGroup) -> Path:
    """Start a worker in a control group; returns its log, which names the runs that it takes."""
    log = stack.folder / f"{group.folder.name}.log"
    stack.environment["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "INFO"
    stack.start_worker(limit=None, log=log, prefix=group.prefix)
    return log


def read_predictions(home: Path) -> pl.DataFrame:
    (file,) = (home / "store" / "evidence").glob("[!.]*/predictions.parquet")
    return pl.read_parquet(file)


def test_fifty_five_trainings_fit_into_two_small_workers(tmp_path: Path):
    with contextlib.ExitStack() as exit_stack:
        groups = [exit_stack.enter_context(memory_group(f"ward{i}", LIMIT)) for i in range(2)]
        stack = exit_stack.enter_context(running_stack(tmp_path / "pool", workers=0))
        del stack.environment["FLOWSHEET_OPTUNA_URL"]  # one worker tunes a model
        logs = [start_worker(stack, group) for group in groups]
        result = stack.run_flowsheet(*EXPERIMENT, "compute=cpu_pool", timeout=3000)
        assert result.returncode == 0, result.stdout + result.stderr
        states = Counter(stack.list_states("train"))
        taken = [len(set(_find_submitted(log.read_text(encoding="utf-8")))) for log in logs]
        kills = [group.count_kills() for group in groups]
        peaks = [group.peak_bytes() for group in groups]
    counts = {"states": states, "runs by worker": taken, "kills": kills, "peak bytes": peaks}
    if report := os.environ.get("FLOWSHEET_SMALL_WORKERS_REPORT"):
        write_json(Path(report), counts)
    predictions = read_predictions(stack.folder / "home")
    trainings = TRAININGS_OF_A_MODEL * len(MODELS)
    assert states == {"COMPLETED": trainings}
    assert kills == [0, 0]
    assert sum(taken) >= trainings  # scheduled flows are among them
    assert min(taken) >= 10
    assert max(peaks) < LIMIT
    embedded = tmp_path / "embedded"
    alone = run_flowsheet(embedded, *EXPERIMENT)
    assert alone.returncode == 0, alone.stderr
    assert predictions.equals(read_predictions(embedded))


def _find_submitted(log: str) -> list[str]:
    """Ids of the flow runs that a worker has taken."""
    return re.findall(r"submitting flow run '([0-9a-f-]{36})'", log)
