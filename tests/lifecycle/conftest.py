"""Registered models for tests: hand-written records without training, and one trained model."""

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
from flowsheet.evaluation.alert_policy import make_policies
from flowsheet.lifecycle.experiment import prepare
from flowsheet.lifecycle.experiment.evaluate import evaluate_predictions
from flowsheet.lifecycle.experiment.predictions import PredictedFold, Predictions
from flowsheet.lifecycle.experiment.stage import Stage
from flowsheet.lifecycle.experiment.train import FoldData, train_model
from flowsheet.prediction.manifest import write_manifest
from flowsheet.state.hashing import digest
from flowsheet.tracking.datasets import DataSet
from flowsheet.tracking.model_registry import register
from flowsheet.tracking.packaging import log_model
from flowsheet.tracking.runs import Tracker
from tests.model_packages import fit_model_package, ward_tables
from tests.tiny import experiment

STAYS = 600
STEPS = 4
_name_numbers = itertools.count()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def held_out_rows(seed: int = 0) -> pl.DataFrame:
    """Held-out rows; ``known`` + ``hidden`` - 1 is each row's true log odds."""
    rng = np.random.default_rng(seed)
    n = STAYS * STEPS
    known = rng.normal(size=n)
    hidden = 1.2 * rng.normal(size=n)
    stay = np.repeat(np.arange(STAYS), STEPS)
    return pl.DataFrame(
        {
            "repeat": np.zeros(n, np.int32),
            "fold": np.zeros(n, np.int32),
            "stay_id": stay + 10,
            "subject_id": stay + 100,
            "y": (rng.random(n) < sigmoid(known + hidden - 1)).astype(np.int8),
            "scored": np.ones(n, bool),
            "in_state": np.zeros(n, bool),
            "before_treatment": np.ones(n, bool),
            "weight": np.ones(n),
            "step": np.tile(np.arange(1, STEPS + 1), STAYS).astype(np.int32),
            "known": known,
            "hidden": hidden,
        },
        schema_overrides={"repeat": pl.Int64, "fold": pl.Int64},
    )


def good(rows):
    """The true risk."""
    return sigmoid(rows["known"] + rows["hidden"] - 1)


def weak(rows):
    """The risk given one of its two parts: calibrated, but less accurate."""
    return sigmoid((rows["known"] - 1) / np.sqrt(1 + 0.346 * 1.2**2))


def overconfident(rows):
    """Ranks as well as the true risk, but with log odds three times too large."""
    return sigmoid(3 * (rows["known"] + rows["hidden"] - 1))


QUALITIES = {"good": good, "weak": weak, "overconfident": overconfident}


def make_predictions(quality: str, seed: int = 0, *, with_states: bool = False) -> Predictions:
    """Predictions of one model of that quality; some rows of patients in the state, if asked."""
    rows = held_out_rows(seed)
    if with_states:
        rows = rows.with_columns(in_state=pl.col("stay_id") % 5 == 0)
    risk = QUALITIES[quality](rows).alias("p.logistic")
    stay = np.arange(STAYS)
    subgroups = pl.DataFrame({"stay_id": stay + 10, "sex": np.where(stay % 2, "F", "M")})
    fold = PredictedFold(n_training_subjects=900, policies=make_policies({"logistic": 0.5}))
    return Predictions(rows.with_columns(risk).drop("known", "hidden"), subgroups, (fold,))


@dataclass
class Registrar:
    """Registers versions of a model with recorded predictions of a chosen quality."""

    name: str
    model_package: Path
    folder: Path
    config: ExperimentConfig
    count: int = 0
    """Versions registered so far."""

    def register(
        self,
        quality: str,
        *,
        rows: int = 0,
        name: str | None = None,
        task: Mapping[str, object] | None = None,
        with_evidence: bool = False,
        with_states: bool = False,
    ) -> int:
        """Register a version and return its number.

        Args:
            quality: a key of ``QUALITIES``.
            rows: seed of the held-out rows.
            name: registered model, if not ``self.name``.
            task: changes to the task.
            with_evidence: evaluate the predictions, too.
            with_states: some patients are in the state at the prediction.
        """
        self.count += 1
        key = digest([self.name, self.count])
        work = self.folder / str(self.count)
        evidence_folder = work / "evidence"
        evidence_folder.mkdir(parents=True)
        predictions = make_predictions(quality, rows, with_states=with_states)
        predictions.save(evidence_folder)
        changed_task = self.config.task.model_copy(update=dict(task or {}))
        config = self.config.model_copy(update={"task": changed_task})
        tracker = Tracker.open()
        dataset = DataSet("ward", "d" * 64, "simulated", counts={"stays": STAYS})
        fingerprints = {"fingerprint.extract": "e" * 64, "fingerprint.split": "f" * 64}
        parent = tracker.start_experiment_run(config, key, fingerprints, [dataset])
        model_run_id = tracker.start_model_run(parent.run_id, "logistic", key, {"l2": 0.1})
        if with_evidence:
            evidence = evaluate_predictions(
                predictions, config.task, config.evaluation, config.seed
            )
            evidence.save(evidence_folder)
            tracker.log(model_run_id, metrics=evidence.metrics("logistic"))
        tracker.log_artifacts(parent.run_id, evidence_folder, "evidence")
        tracker.finish(model_run_id)
        tracker.finish(parent.run_id)
        uri = log_model(model_run_id, self._copy_package(work, key, config.task.response))
        return register(name or self.name, model_run_id, uri, key)

    def _copy_package(self, work: Path, key: str, response: str) -> Path:
        copy = Path(shutil.copytree(self.model_package, work / "model_package"))
        info = json.loads((copy / "package.json").read_text(encoding="utf-8"))
        (copy / "package.json").write_text(
            json.dumps(info | {"training_key": key, "task": info["task"] | {"response": response}}),
            encoding="utf-8",
        )
        write_manifest(copy)
        return copy


@pytest.fixture(scope="session")
def registry_home(tmp_path_factory):
    return tmp_path_factory.mktemp("registry home")


@pytest.fixture(scope="session")
def tiny_package(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model_package")
    return Path(fit_model_package(folder, "logistic_regression", ward_tables()).folder)


@pytest.fixture
def registrar(registry_home, tiny_package, tmp_path, monkeypatch) -> Registrar:
    """All tests share one SQLite store, which takes seconds to create; registered names differ."""
    monkeypatch.setenv("FLOWSHEET_HOME", str(registry_home))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    name = f"ward_{next(_name_numbers)}"
    config = experiment(name, evaluation=EvaluationConfig(name="holdout", resamples=50))
    return Registrar(f"{name}-logistic", tiny_package, tmp_path / "records", config)


@dataclass(frozen=True)
class InService:
    """A registered model, trained on a simulated ward, and an extract of further patients."""

    name: str
    version: int
    trained: Stage
    config: ExperimentConfig
    new_extract: Path
    """Other patients of the same data-generating process."""


@pytest.fixture(scope="session")
def _in_service(registry_home, tmp_path_factory) -> InService:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOWSHEET_HOME", str(registry_home))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        config = experiment(
            "in_service",
            cohort=compose_cohort("simulated_icu", ["cohort.options.stays=900"]),
            features=FeaturesConfig(name="plain"),
            tuning=TuningConfig(name="none", trials=1),
            evaluation=EvaluationConfig(name="holdout", test=0.3, resamples=50),
        )
        extract = prepare.ingest_cohort(config.cohort, print)
        windows = prepare.build_windows(extract, config.task, config.features)
        split = prepare.split_subjects(extract, windows, config.evaluation, config.seed)
        data = FoldData(extract=extract, windows=windows, split=split)
        trained = train_model(config, "logistic", data, lambda trial: None, print)
        tracker = Tracker.open()
        parent = tracker.start_experiment_run(config, trained.key)
        model_run_id = tracker.start_model_run(parent.run_id, "logistic", trained.key)
        tracker.finish(model_run_id)
        tracker.finish(parent.run_id)
        uri = log_model(model_run_id, trained.folder / "model_package")
        version = register("in_service", model_run_id, uri, trained.key)
        new_cohort = compose_cohort("simulated_icu", ["cohort.options.seed=2"])
        new_extract = prepare.open_extract(prepare.ingest_cohort(new_cohort, print)).path
    return InService("in_service", version, trained, config, new_extract)


@pytest.fixture
def in_service(_in_service, registry_home, monkeypatch) -> InService:
    monkeypatch.setenv("FLOWSHEET_HOME", str(registry_home))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return _in_service
