"""A finished experiment on own tables whose ids cannot be mistaken for other numbers."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
import pytest

from flowsheet.cohort.extract import Extract
from flowsheet.cohort.ingest import ingest, make_source
from flowsheet.config import (
    CohortConfig,
    EvaluationConfig,
    ExperimentConfig,
    QuarantineConfig,
    TuningConfig,
)
from flowsheet.lifecycle.deployment import batch_scoring, monitoring
from flowsheet.lifecycle.deployment.external_evaluation import evaluate_elsewhere
from flowsheet.lifecycle.experiment import evaluate, prepare, record
from flowsheet.lifecycle.experiment.folds import ExperimentResults, plan_folds
from flowsheet.lifecycle.experiment.record import RunSummary
from flowsheet.lifecycle.experiment.train import train_model
from flowsheet.serving.answer_files import ANSWERS
from tests.tiny import experiment

MODEL = "own_ward-logistic"
"""The registered model of the experiment."""

SUBJECT, STAY = 7_310_000_000, 8_420_000_000
"""Ids of the first subject and the first stay; the others follow."""
SIMULATED = CohortConfig(name="ward", source="simulated", options={"stays": 160})


@dataclass(frozen=True)
class Experiment:
    """A state folder with a finished experiment."""

    home: Path
    config: ExperimentConfig
    summary: RunSummary

    def stages(self, kind: str) -> list[Path]:
        """The folders of the store's stages of a kind."""
        return sorted((self.home / "store" / kind).iterdir())

    def predictions(self) -> pl.DataFrame:
        """The held-out rows in the store."""
        return pl.read_parquet(self.stages("evidence")[0] / "predictions.parquet")

    def held_out(self) -> int:
        """A subject of the test part."""
        return int(self.predictions()["subject_id"].min())

    def trained_on(self) -> int:
        """A subject of the training part."""
        stays = pl.read_parquet(self.stages("extract")[0] / "extract" / "stays.parquet")
        others = stays.join(self.predictions(), on="subject_id", how="anti")
        return int(others["subject_id"].min())


def write_own_tables(folder: Path) -> None:
    """A simulated ward with other ids; every second stay is the subject's second one.

    One stay has an event with an implausible value, which is quarantined.
    """
    ward = ingest(make_source(SIMULATED), SIMULATED, folder.parent / "ward", print).tables()
    folder.mkdir()
    subject = SUBJECT + (pl.col("stay_id") - 1) // 2
    for table in ("stays", "events", "treatments", "episodes"):
        rows: pl.DataFrame = getattr(ward, table)
        if table == "stays":
            rows = rows.with_columns(subject_id=subject)
        if table == "events":
            is_wrong = (pl.col("variable") == "hr") & (pl.int_range(pl.len()) % 50 == 0)
            rows = rows.with_columns(value=pl.when(is_wrong).then(9e9).otherwise("value"))
        rows.with_columns(stay_id=STAY + pl.col("stay_id")).write_parquet(
            folder / f"{table}.parquet"
        )


def run(config: ExperimentConfig) -> RunSummary:
    """Run an experiment with one fold as the flow does, without Prefect."""
    with record.exclusive(config, print):
        extract = prepare.ingest_cohort(config.cohort, print)
        windows = prepare.build_windows(extract, config.task, config.features)
        split = prepare.split_subjects(extract, windows, config.evaluation, config.seed)
        plan = plan_folds(config, extract, windows, split)
        with record.track_experiment(config, plan, {}) as parent:
            trained = {
                fold.name: {
                    name: train_model(config, name, fold.data, lambda _: None, print)
                    for name in config.models
                }
                for fold in plan.folds
            }
            evidence = evaluate.evaluate_models(config, plan, trained)
            results = ExperimentResults(
                config=config, plan=plan, trained=trained, excluded_models={}, evidence=evidence
            )
            return record.record_results(results, parent, print)


@pytest.fixture(scope="session")
def _finished(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    folder = tmp_path_factory.mktemp("erasure")
    config = experiment(
        "own_ward",
        cohort=CohortConfig(
            name="own",
            source="extract",
            path=str(folder / "own"),
            quarantine=QuarantineConfig(max_share=0.5),
        ),
        tuning=TuningConfig(name="none", trials=1),
        evaluation=EvaluationConfig(name="holdout", test=0.3, resamples=20),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOWSHEET_HOME", str(folder / "home"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        write_own_tables(folder / "own")
        return Experiment(folder / "home", config, run(config))


def use_copy(experiment: Experiment, home: Path, patch: pytest.MonkeyPatch) -> Experiment:
    """Copy the experiment's state folder and make the copy the one in use."""
    patch.setenv("FLOWSHEET_HOME", str(shutil.copytree(experiment.home, home)))
    patch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return replace(experiment, home=home)


@pytest.fixture
def finished(_finished: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    """A copy of the finished experiment's state folder, which is the one in use."""
    return use_copy(_finished, tmp_path / "home", monkeypatch)


def write_answers(experiment: Experiment, stays: list[int]) -> None:
    """Answers of a server about these stays."""
    folder = experiment.home / "serving" / "answers" / MODEL / "2026-11-28"
    folder.mkdir(parents=True)
    frame = pl.DataFrame({"stay_id": stays}, schema_overrides={"stay_id": pl.Int64})
    missing = [pl.lit(None, kind).alias(name) for name, kind in ANSWERS.items()]
    file = folder / "0123456789ab-00000001-00000002.parquet"
    frame.with_columns(c for c in missing if c.meta.output_name() != "stay_id").write_parquet(file)


def fill_home(experiment: Experiment) -> None:
    """Scores, monitoring, an evaluation, an unfinished search and kept answers of everybody."""
    extract = Extract.open(experiment.stages("extract")[0] / "extract")
    batch_scoring.score(f"{MODEL}/1", extract.path, None, print)
    monitoring.monitor(
        f"{MODEL}/1", extract.path, print, monitoring.load_monitoring_config("standard")
    )
    evaluate_elsewhere([f"{MODEL}/1"], extract.path, print)
    stays = pl.read_parquet(extract.path / "stays.parquet")["stay_id"].to_list()
    write_answers(experiment, stays)
    model = experiment.stages("model")[0]
    work = experiment.home / "store" / ".work" / "model-0123456789abcdef"
    work.mkdir(parents=True)
    shutil.copy(model / "inputs.json", work)


@pytest.fixture(scope="session")
def _filled(_finished: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    with pytest.MonkeyPatch.context() as patch:
        filled = use_copy(_finished, tmp_path_factory.mktemp("filled") / "home", patch)
        fill_home(filled)
    return filled


@pytest.fixture
def filled(_filled: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    """The same, with all that later commands keep of everybody."""
    return use_copy(_filled, tmp_path / "home", monkeypatch)
