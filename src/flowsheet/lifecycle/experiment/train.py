"""Windows and split -> a tuned model, its model package, and its probabilities for everybody who was not trained on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np

from flowsheet.config import ExperimentConfig, FrozenModel, ModelConfig
from flowsheet.errors import CheckFailed, UsageError
from flowsheet.evaluation.metrics import make_score_function
from flowsheet.lifecycle.experiment.reference_data import StayRisks, save_reference
from flowsheet.lifecycle.experiment.stage import (
    Progress,
    Stage,
    is_complete,
    run_stage,
)
from flowsheet.models.base import MODELS
from flowsheet.monitoring.profile import VERSION as PROFILE_VERSION
from flowsheet.prediction.model_package import ModelPackage
from flowsheet.state.hashing import digest
from flowsheet.state.json_files import read_json, write_json
from flowsheet.state.store import Store
from flowsheet.tuning.journal import OPTUNA_URL
from flowsheet.tuning.records import TrialRecord, TrialState, Tuned
from flowsheet.tuning.study import tune
from flowsheet.typing import Floats
from flowsheet.windows.scaling import VERSION as SCALING_VERSION
from flowsheet.windows.scaling import Scaler
from flowsheet.windows.sequences import Sequences
from flowsheet.windows.split import Split

OnTrial = Callable[[TrialRecord], None]


class FoldData(FrozenModel):
    """What every model of an experiment is trained and tested on."""

    extract: Stage
    windows: Stage
    split: Stage
    part: str = "fold-0"
    """Which of the protocol's splits."""

    def load_parts(self) -> tuple[Sequences, Sequences, Sequences]:
        """The stays of the training, validation and test subjects."""
        sequences = Sequences.load(self.windows.folder / "sequences")
        split = self.load_split()
        return tuple(
            sequences.select_subjects(part) for part in (split.train, split.valid, split.test)
        )  # type: ignore[return-value]

    def load_split(self) -> Split:
        """Who is in which part."""
        return Split.load(self.split.folder / f"{self.part}.json")


def training_key(config: ExperimentConfig, name: str, data: FoldData) -> str:
    """What a trained model depends on, and nothing else: equal keys, equal numbers."""
    model = config.models[name]
    return digest(
        {
            "windows": data.windows.key,
            "split": data.load_split().fingerprint,
            "model": model.model_dump(mode="json"),
            "versions": [MODELS.get(model.kind).version, SCALING_VERSION, PROFILE_VERSION],
            "tuning": config.tuning.model_dump(mode="json", exclude={"name"}),
            "seed": config.seed,
        }
    )


def is_trained(key: str) -> bool:
    """Whether the store holds the trained model of that key."""
    return is_complete("model", key)


def train_model(
    config: ExperimentConfig, name: str, data: FoldData, on_trial: OnTrial, progress: Progress
) -> Stage:
    """Tune and fit one model of the experiment; a killed study goes on where it was.

    Raises:
        CheckFailed: the model cannot be fitted to this task (says why).
    """
    _check_applies(config, name)
    key = training_key(config, name, data)
    work = Store.open().work("model", key)
    url = os.environ.get(OPTUNA_URL)
    together = (
        _search(config, name, data, work=work, progress=progress, url=url)
        if url and not is_trained(key)
        else None
    )

    def make(folder: Path) -> None:
        scaler, valid_part, test_part, tuned = together or _search(
            config, name, data, work=work, progress=progress, on_trial=on_trial
        )
        if together:
            for trial in tuned.trials:
                on_trial(trial)
        model_package = ModelPackage.write(
            folder / "model_package",
            kind=config.models[name].kind,
            model=tuned.folder,
            scaler=scaler,
            task=config.task,
            features=config.features,
            columns=read_json(data.windows.folder / "columns.json"),
            training_key=key,
        )
        said = {}
        for part, sequences in (("test", test_part), ("valid", valid_part)):
            probabilities = (
                model_package.model.predict_proba(sequences) if len(sequences) else np.empty(0)
            )
            np.save(folder / f"{part}.npy", probabilities, allow_pickle=False)
            said[part] = StayRisks(sequences, probabilities)
        save_reference(model_package, data.extract, np.asarray(data.load_split().train), said)
        _keep_story(folder, model_package, tuned)

    made = run_stage("model", key, make)
    shutil.rmtree(work, ignore_errors=True)
    return made


def _search(
    config: ExperimentConfig,
    name: str,
    data: FoldData,
    *,
    work: Path,
    progress: Progress,
    on_trial: OnTrial = lambda trial: None,
    url: str | None = None,
) -> tuple[Scaler | None, Sequences, Sequences, Tuned]:
    """The scaler, the scaled validation and test parts, and the finished search.

    With a ``url`` any number of workers search together.
    """
    model = config.models[name]
    train_part, valid_part, test_part = data.load_parts()
    scaler = Scaler.fit(train_part) if MODELS.get(model.kind).capabilities.scaled else None
    if scaler:
        train_part, valid_part, test_part = map(
            scaler.transform, (train_part, valid_part, test_part)
        )
    tuned = tune(
        model.kind,
        model,
        config.tuning,
        train_part,
        valid_part,
        seed=config.seed,
        score=make_score_function(config.tuning.metric),
        work=work,
        device=resolve_device(config, model),
        threads=config.compute.threads,
        on_trial=on_trial,
        progress=progress,
        storage=url,
    )
    return scaler, valid_part, test_part, tuned


def _check_applies(config: ExperimentConfig, name: str) -> None:
    """Refuse a model whose family makes no sense for the task.

    Before the first onset every earlier response is 0: a model of the response history alone has
    nothing to learn.
    """
    if config.task.response not in MODELS.get(config.models[name].kind).capabilities.responses:
        raise CheckFailed(
            f"{name} learns from the patient's earlier responses, and before a first onset these are all 0",
            where=f"task {config.task.name}, response {config.task.response.value}",
            todo="use a task whose response is the state, such as next_day, or leave the model out",
        )


def _keep_story(folder: Path, model_package: ModelPackage, tuned: Tuned) -> None:
    """What a reader may ask of the fit: its tables and its trials."""
    (folder / "tables").mkdir()
    for table, frame in model_package.model.tables().items():
        frame.write_parquet(folder / "tables" / f"{table}.parquet")
    trials = [asdict(trial) for trial in tuned.trials]
    write_json(
        folder / "tuning.json", {"params": tuned.params, "value": tuned.value, "trials": trials}
    )


def load_probabilities(made: Stage, part: str) -> Floats:
    """What a trained model says of the rows of the ``valid`` or the ``test`` subjects."""
    return np.asarray(np.load(made.folder / f"{part}.npy", allow_pickle=False), np.float64)


def load_trials(trained: Stage) -> list[TrialRecord]:
    """The finished trials of a trained model."""
    records = read_json(trained.folder / "tuning.json")["trials"]
    return [
        TrialRecord(
            **{
                **r,
                "state": TrialState(r["state"]),
                "curve": {int(k): v for k, v in r["curve"].items()},
            }
        )
        for r in records
    ]


def resolve_device(config: ExperimentConfig, model: ModelConfig) -> str:
    """``cpu`` or ``cuda``: what the compute choice asks for, where the model can use it.

    Raises:
        UsageError: a GPU is asked for and there is none.
    """
    wanted = config.compute.device
    if wanted == "cpu" or not MODELS.get(model.kind).capabilities.gpu:
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if wanted == "cuda":
        raise UsageError(
            "compute.device=cuda, but this machine has no GPU", todo="use compute.device=auto"
        )
    return "cpu"
