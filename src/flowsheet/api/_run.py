"""Experiments: compose them, run them, and read their record."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from flowsheet.api._evaluation import Evaluation, Plots
from flowsheet.api._html import describe
from flowsheet.compose import compose
from flowsheet.config import ExperimentConfig
from flowsheet.config.validation import validate_recorded
from flowsheet.errors import CheckFailed, FlowsheetError, Unreachable, UsageError
from flowsheet.evaluation.evidence import Evidence
from flowsheet.lifecycle.experiment.predictions import Predictions
from flowsheet.models.base import MODELS
from flowsheet.plugins import is_defined_in_notebook
from flowsheet.state.json_files import read_json, write_json
from flowsheet.tracking.run_records import RunRecord, load_run_record

_ERRORS = {cls.__name__: cls for cls in (UsageError, CheckFailed, Unreachable, FlowsheetError)}


def experiment(name: str | Path, *overrides: str, **choices: Any) -> ExperimentConfig:
    """An experiment's configuration, checked.

    Args:
        name: of an experiment (``flowsheet ls experiments``), or a YAML file.
        overrides: as on the command line, such as ``"tuning.trials=3"``.
        choices: ``cohort="simulated_small"``, ``models=["lstm"]``, ``seed=2``.

    Raises:
        UsageError: a choice or key is unknown; the message names the nearest one.

    Examples:
        >>> experiment("demo", "tuning.trials=3", cohort="simulated_small", seed=2).tuning.trials
        3
    """
    texts = [
        f"{key}={value if isinstance(value, str) else json.dumps(value)}"
        for key, value in choices.items()
    ]
    return compose(str(name), [*texts, *overrides])


class Run:
    """A recorded experiment: ``fs.run(...)`` returns one, ``fs.open_run(ID)`` finds one."""

    def __init__(self, record: RunRecord, evidence: Evidence, predictions: Predictions) -> None:
        self._record = record
        self._predictions = predictions
        self.evaluation = Evaluation(evidence)

    @property
    def id(self) -> str:
        """Of its run in MLflow."""
        return self._record.run_id

    @property
    def config(self) -> ExperimentConfig:
        """Its complete configuration."""
        return validate_recorded(ExperimentConfig, dict(self._record.config), f"run {self.id}")

    @property
    def leaderboard(self) -> pl.DataFrame:
        """A row for each model, best first: the leading metrics and their intervals, as numbers."""
        return self.evaluation.leaderboard

    @property
    def metrics(self) -> pl.DataFrame:
        """Every metric of every model on every subset of the held-out rows."""
        return self.evaluation.metrics

    @cached_property
    def predictions(self) -> pl.DataFrame:
        """Every held-out row with its response and a column ``p.MODEL`` for each model."""
        rows = self._predictions.rows
        subgroups = self._predictions.subgroups
        return rows.join(subgroups, on="stay_id", how="left", maintain_order="left")

    @property
    def plot(self) -> Plots:
        """Figures: ``plot.roc()``, ``plot.calibration()``, ..."""
        return self.evaluation.plot

    def __repr__(self) -> str:
        return f"Run({self.id[:8]}, {self._record.experiment}: {self.evaluation.headline})"

    def _repr_html_(self) -> str:
        facts = {"run": self.id, "result": self.evaluation.headline}
        return describe(f"Experiment {self._record.experiment}", facts, self.leaderboard)


def run(
    experiment: str | Path | ExperimentConfig,
    *overrides: str,
    progress: Callable[[str], None] | None = None,
    **choices: Any,
) -> Run:
    """Run an experiment from records to ranked, registered models, as ``flowsheet run`` does.

    It runs in a process of its own, so that a notebook with its running event loop is no obstacle;
    interrupting the cell stops it.

    Args:
        experiment: a name, a YAML file, or the result of ``fs.experiment``.
        overrides: as on the command line, such as ``"tuning.trials=3"``.
        progress: called with each line of progress; default: printed to standard error.
        choices: ``cohort="simulated_small"``, ``models=["lstm"]``, ``seed=2``.

    Raises:
        UsageError: the configuration is wrong.
        CheckFailed: the records or all models failed.
    """
    if not isinstance(experiment, ExperimentConfig):
        config = compose_experiment(experiment, overrides, choices)
    elif overrides or choices:
        what = "a complete configuration takes no overrides"
        raise UsageError(what, todo="give them to fs.experiment")
    else:
        config = experiment
    _check_importable(config)
    return open_run(_run_in_process(config, progress or _print_progress))


def compose_experiment(
    name: str | Path, overrides: tuple[str, ...], choices: dict[str, Any]
) -> ExperimentConfig:
    """``experiment`` under a name that an argument does not hide."""
    return experiment(name, *overrides, **choices)


def open_run(reference: str) -> Run:
    """A recorded experiment by the id of its run (``flowsheet ls runs``), or eight letters of it.

    Raises:
        UsageError: there is no such run.
    """
    with tempfile.TemporaryDirectory() as folder:
        record = load_run_record(reference, Path(folder))
        evidence = record.download_artifacts("evidence", Path(folder))
        return Run(record, Evidence.load(evidence), Predictions.load(evidence))


def _check_importable(config: ExperimentConfig) -> None:
    for name, model in config.models.items():
        if is_defined_in_notebook(MODELS.get(model.kind)):
            raise UsageError(
                f"the model {name!r} is defined in this notebook or script, which the processes "
                "that train cannot import",
                todo="move it to a module of your project (`flowsheet init`), or use fs.model",
            )


def _run_in_process(config: ExperimentConfig, progress: Callable[[str], None]) -> str:
    """Run an experiment in a new process; the id of its run."""
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder) / "config.json", Path(folder) / "result.json"
        write_json(files[0], config.model_dump(mode="json"))
        command = [sys.executable, "-m", "flowsheet.api._run_process", *map(str, files)]
        process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, encoding="utf-8", errors="replace"
        )
        assert process.stderr is not None
        lines = []
        try:
            for line in process.stderr:
                lines.append(line.rstrip())
                progress(lines[-1])
            process.wait()
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
        result = read_json(files[1]) if files[1].is_file() else {}
    if "run_id" in result:
        return str(result["run_id"])
    if "error" in result:
        raise _ERRORS[result["error"]](*result["args"])
    raise FlowsheetError(
        f"the process of the experiment ended with exit code {process.returncode}",
        where="; ".join(lines[-3:]),
        todo="start it again: finished stages are kept",
    )


def _print_progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
