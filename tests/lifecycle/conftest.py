"""Registered models without any training: what a run would have recorded, written by hand."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from flowsheet.compose import compose_cohort
from flowsheet.config import EvaluationConfig, ExperimentConfig, FeaturesConfig, TuningConfig
from flowsheet.lifecycle.experiment import prepare
from flowsheet.lifecycle.experiment.evaluate import evaluate_predictions
from flowsheet.lifecycle.experiment.predictions import PredictedFold, Predictions
from flowsheet.lifecycle.experiment.stage import Stage
from flowsheet.lifecycle.experiment.train import FoldData, train_model
from flowsheet.state.hashing import digest
from flowsheet.tracking.model_registry import register
from flowsheet.tracking.packaging import log_model
from flowsheet.tracking.runs import DataSet, Tracker
from tests.model_packages import fit_model_package, ward_tables
from tests.tiny import experiment

STAYS, STEPS = 600, 4
_numbers = itertools.count()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def truth(seed: int = 0) -> pl.DataFrame:
    """Held-out rows with the two parts of each row's true log-odds, ``known`` and ``hidden``."""
    rng = np.random.default_rng(seed)
    n = STAYS * STEPS
    known, hidden = rng.normal(size=n), 1.2 * rng.normal(size=n)
    stay = np.repeat(np.arange(STAYS), STEPS)
    return pl.DataFrame(
        {
            "repeat": np.zeros(n, np.int32), "fold": np.zeros(n, np.int32), "stay_id": stay + 10,
            "subject_id": stay + 100, "y": (rng.random(n) < sigmoid(known + hidden - 1)).astype(np.int8),
            "scored": np.ones(n, bool), "in_state": np.zeros(n, bool),
            "step": np.tile(np.arange(1, STEPS + 1), STAYS).astype(np.int32), "known": known, "hidden": hidden,
        },
        schema_overrides={"repeat": pl.Int64, "fold": pl.Int64},
    )  # fmt: skip


def good(rows):
    """The true risk."""
    return sigmoid(rows["known"] + rows["hidden"] - 1)


def weak(rows):
    """The risk as far as one of its two parts tells it: calibrated, and worse."""
    return sigmoid((rows["known"] - 1) / np.sqrt(1 + 0.346 * 1.2**2))


def overconfident(rows):
    """As good a ranking as the true risk's, at odds far too sharp."""
    return sigmoid(3 * (rows["known"] + rows["hidden"] - 1))


SAYS = {"good": good, "weak": weak, "overconfident": overconfident}


def predictions(says: str, seed: int = 0) -> Predictions:
    rows = truth(seed)
    said = rows.with_columns(SAYS[says](rows).alias("p.logistic")).drop("known", "hidden")
    subgroups = pl.DataFrame(
        {"stay_id": np.arange(STAYS) + 10, "sex": np.where(np.arange(STAYS) % 2, "F", "M")}
    )
    note = PredictedFold(name="", repeat=0, fold=0, learned_from=900, thresholds={"logistic": 0.5})
    return Predictions(said, subgroups, (note,))


@dataclass
class Registrar:
    """Registers versions of a model that say what they are told to say."""

    name: str
    model_package: Path
    folder: Path
    config: ExperimentConfig
    made: int = 0

    def register(
        self,
        says: str,
        *,
        rows: int = 0,
        name: str | None = None,
        task: Mapping[str, object] | None = None,
        judged: bool = False,
    ) -> int:
        """The number of a new version of ``name`` that says this of the rows of that seed; ``judged``: with figures."""
        self.made += 1
        key = digest([self.name, self.made])
        work = self.folder / str(self.made)
        held = work / "evidence"
        held.mkdir(parents=True)
        said = predictions(says, rows)
        said.save(held)
        config = self.config.model_copy(
            update={"task": self.config.task.model_copy(update=dict(task or {}))}
        )
        tracker = Tracker.open()
        data = DataSet("ward", "d" * 64, "simulated", counts={"stays": STAYS})
        parent = tracker.start_experiment_run(
            config, key, {"fingerprint.extract": "e" * 64, "fingerprint.split": "f" * 64}, [data]
        )
        child = tracker.start_model_run(parent.run_id, "logistic", key, {"l2": 0.1})
        if judged:
            found = evaluate_predictions(said, config.task, config.evaluation, config.seed)
            found.save(held)
            tracker.log(child, metrics=found.metrics("logistic"))
        tracker.log_artifacts(parent.run_id, held, "evidence")
        for run in (child, parent.run_id):
            tracker.finish(run)
        return register(
            name or self.name, child, log_model(child, self._copy_package(work, key)), key
        )

    def _copy_package(self, work: Path, key: str) -> Path:
        copy = Path(shutil.copytree(self.model_package, work / "model_package"))
        about = json.loads((copy / "package.json").read_text())
        (copy / "package.json").write_text(json.dumps(about | {"training_key": key}))
        return copy


@pytest.fixture(scope="session")
def registry_home(tmp_path_factory):
    return tmp_path_factory.mktemp("registry home")


@pytest.fixture(scope="session")
def tiny_package(tmp_path_factory) -> Path:
    made = fit_model_package(
        tmp_path_factory.mktemp("model_package"),
        "logistic_regression",
        ward_tables(),
    )
    return Path(made.folder)


@pytest.fixture
def registrar(registry_home, tiny_package, tmp_path, monkeypatch) -> Registrar:
    """One SQLite store for all tests, since making one takes seconds; registered names differ."""
    monkeypatch.setenv("FLOWSHEET_HOME", str(registry_home))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    name = f"ward_{next(_numbers)}"
    config = experiment(name, evaluation=EvaluationConfig(name="holdout", resamples=50))
    return Registrar(f"{name}-logistic", tiny_package, tmp_path / "records", config)


@dataclass(frozen=True)
class InService:
    """A model that was trained on a simulated ward and registered, and more of that ward."""

    name: str
    version: int
    trained: Stage
    config: ExperimentConfig
    again: Path
    """An extract of other patients under the same law."""


@pytest.fixture(scope="session")
def _in_service(registry_home, tmp_path_factory) -> InService:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOWSHEET_HOME", str(registry_home))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        wards = [
            compose_cohort("simulated_icu", [f"cohort.options.{o}"])
            for o in ("stays=900", "seed=2")
        ]
        config = experiment(
            "in_service",
            cohort=wards[0],
            features=FeaturesConfig(name="plain"),
            tuning=TuningConfig(name="none", trials=1),
            evaluation=EvaluationConfig(name="holdout", test=0.3, resamples=50),
        )
        extract = prepare.ingest_cohort(config.cohort, print)
        windows = prepare.build_windows(extract, config.task, config.features)
        data = FoldData(
            extract=extract,
            windows=windows,
            split=prepare.split_subjects(extract, windows, config.evaluation, config.seed),
        )
        trained = train_model(config, "logistic", data, lambda trial: None, print)
        tracker = Tracker.open()
        parent = tracker.start_experiment_run(config, trained.key)
        child = tracker.start_model_run(parent.run_id, "logistic", trained.key)
        for run in (child, parent.run_id):
            tracker.finish(run)
        version = register(
            "in_service", child, log_model(child, trained.folder / "model_package"), trained.key
        )
        again = prepare.open_extract(prepare.ingest_cohort(wards[1], print)).path
    return InService("in_service", version, trained, config, again)


@pytest.fixture
def in_service(_in_service, registry_home, monkeypatch) -> InService:
    monkeypatch.setenv("FLOWSHEET_HOME", str(registry_home))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return _in_service
