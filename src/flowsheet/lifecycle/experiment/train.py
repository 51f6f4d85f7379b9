"""Tune and train one model: windows and split -> model package and held-out probabilities."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from flowsheet.config import ExperimentConfig, FrozenModel
from flowsheet.errors import CheckFailed
from flowsheet.evaluation.alert_policy import AlertPolicy
from flowsheet.evaluation.threshold import choose_policy
from flowsheet.lifecycle.experiment.device import resolve_device
from flowsheet.lifecycle.experiment.prepare import open_extract
from flowsheet.lifecycle.experiment.reference_data import StayRisks, save_reference
from flowsheet.lifecycle.experiment.search_budget import (
    SearchTime,
    fair_share,
    search_time,
    sum_minutes,
)
from flowsheet.lifecycle.experiment.stage import Stage, is_complete, run_stage
from flowsheet.lifecycle.experiment.training_group import choose_fit, describe_group
from flowsheet.lifecycle.experiment.training_memory import place_inputs
from flowsheet.lifecycle.experiment.tuning_data import list_left_out_groups, make_tuning_score
from flowsheet.models.base import MODELS
from flowsheet.monitoring.profile import PROFILE_VERSION
from flowsheet.plugins import plugin_code
from flowsheet.prediction.development import Development, DevelopmentSubjects
from flowsheet.prediction.explanations import compute_importance
from flowsheet.prediction.model_package import PACKAGE_VERSION, ModelPackage
from flowsheet.state.hashing import digest
from flowsheet.state.json_files import read_json, write_json
from flowsheet.state.store import Store, shared_folder
from flowsheet.tuning.records import TrialRecord, TrialState, TuningResult
from flowsheet.tuning.storage import OPTUNA_URL
from flowsheet.tuning.study import tune
from flowsheet.tuning.trial import fit_here
from flowsheet.typing import Floats, Progress
from flowsheet.windows.censoring import Completeness, apply_weights, estimate_completeness
from flowsheet.windows.scaling import VERSION as SCALING_VERSION
from flowsheet.windows.scaling import Scaler
from flowsheet.windows.sequences import Sequences
from flowsheet.windows.split import Split

GLOBAL_IMPORTANCE = "global_importance"
"""The table, beside the model's own, of how much each concept moves its held-out predictions."""
PACKAGE = "model_package"
"""Folder of a model's stage."""
INPUTS = "inputs.json"
"""File of a model's stage, and of the folder of an unfinished search: {"windows": key}."""

TrialCallback = Callable[[TrialRecord], None]
"""Receives each trial when it has ended."""


class SplitParts(NamedTuple):
    """The stays of the training, validation and test subjects."""

    train: Sequences
    valid: Sequences
    test: Sequences


class FoldData(FrozenModel):
    """The data of one fold: the same for all models."""

    extract: Stage
    windows: Stage
    split: Stage
    split_name: str = "fold-0"
    """Which of the protocol's splits."""

    def load_parts(self) -> SplitParts:
        """The sequences of the training, validation and test subjects.

        Their inputs are in shards, and decoded whenever they are read; see ``training_memory``.
        """
        sequences = Sequences.load(self.windows.folder / "sequences")
        split = self.load_split()
        return SplitParts(
            train=sequences.select_subjects(split.train),
            valid=sequences.select_subjects(split.valid),
            test=sequences.select_subjects(split.test),
        )

    def count_folds(self, config: ExperimentConfig) -> int:
        """How many folds the experiment trains its models in, the final refit included."""
        folds = len(read_json(self.split.folder / "folds.json"))
        return folds + (folds > 1 and config.registry.register_models)

    def load_split(self) -> Split:
        """Read the subject ids of each part."""
        return Split.load(self.split.folder / f"{self.split_name}.json")


def training_key(config: ExperimentConfig, name: str, data: FoldData) -> str:
    """Digest of everything that a trained model depends on: equal keys give equal predictions.

    The number of processes that train it together changes the last digits, and is part of it.
    """
    model = config.models[name]
    members = {m: training_key(config, m, data) for m in list_members(config, name)}
    timed = config.tuning.minutes is not None
    share = fair_share(config, name, data.count_folds(config)) if timed else None
    return digest(
        {
            **({"members": members} if members else {}),
            **({"minutes": share} if share else {}),
            **describe_group(config.compute, model.kind),
            **plugin_code(MODELS.get(model.kind)),
            "windows": data.windows.key,
            "split": data.load_split().fingerprint,
            "model": model.model_dump(mode="json"),
            "versions": [
                MODELS.get(model.kind).version,
                SCALING_VERSION,
                PROFILE_VERSION,
                PACKAGE_VERSION,
            ],
            "tuning": config.tuning.model_dump(mode="json", exclude={"name"}),
            "minimum_events": config.evaluation.minimum_events,  # of the rows that models tune by
            "alerting": config.alerting.model_dump(mode="json", exclude={"name"}),
            "seed": config.seed,
        }
    )


def list_members(config: ExperimentConfig, name: str) -> list[str]:
    """The models of the experiment that this one is made of, such as an average."""
    model = config.models[name]
    params = MODELS.get(model.kind).Params
    if "members" not in params.model_fields:
        return []
    members = model.params.get("members", params.model_fields["members"].default)
    assert isinstance(members, tuple | list)
    return [str(member) for member in members if member in config.models]


def shared_study_url() -> str | None:
    """URL of the database in which several workers tune one model together.

    None without one, and where the workers share an object store: the models of the trials that
    have ended are in a folder that all workers of a study need.
    """
    return None if shared_folder() else os.environ.get(OPTUNA_URL) or None


def is_trained(key: str) -> bool:
    """Whether the store has the trained model with this key."""
    return is_complete("model", key)


def train_model(
    config: ExperimentConfig,
    name: str,
    data: FoldData,
    on_trial: TrialCallback,
    progress: Progress,
) -> Stage:
    """Tune and fit one model of the experiment; a study that was killed is resumed.

    Args:
        config: the experiment's configuration.
        name: the model's key in ``config.models``.
        data: the fold's data.
        on_trial: called with each trial when it has ended.
        progress: called with lines of progress.

    Raises:
        CheckFailed: the model does not apply to the task, or cannot be fitted to the data.
    """
    _check_applicable(config, name)
    members = {
        member: train_model(config, member, data, _ignore_trial, progress).folder / PACKAGE
        for member in list_members(config, name)
    }
    key = training_key(config, name, data)
    work = Store.open().work_dir("model", key)
    _write_inputs(work, data)
    storage = shared_study_url()
    shared_search: _Search | None = None
    if storage and not is_trained(key):
        # before the stage is locked, so that several workers search at the same time
        shared_search = _search(
            config, name, data, work=work, progress=progress, storage=storage, members=members
        )

    def build(folder: Path) -> None:
        if shared_search:
            search = shared_search
            for trial in search.tuned.trials:
                on_trial(trial)
        else:
            search = _search(
                config, name, data, work=work, progress=progress, on_trial=on_trial, members=members
            )
        package = ModelPackage.write(
            folder / PACKAGE,
            kind=config.models[name].kind,
            model=search.tuned.folder,
            scaler=search.scaler,
            task=config.task,
            features=config.features,
            columns=read_json(data.windows.folder / "columns.json"),
            training_key=key,
        )
        risks = {}
        for part, sequences in (("test", search.test), ("valid", search.valid)):
            has_stays = len(sequences) > 0
            probabilities = package.model.predict_proba(sequences) if has_stays else np.empty(0)
            np.save(folder / f"{part}.npy", probabilities, allow_pickle=False)
            risks[part] = StayRisks(sequences, probabilities)
        _save_development(config, package, data, search, risks["valid"])
        save_reference(package, data.extract, np.asarray(data.load_split().train), risks)
        _save_tuning(folder, package, search.tuned)
        importance = compute_importance(package.model, search.test)
        importance.write_parquet(folder / "tables" / f"{GLOBAL_IMPORTANCE}.parquet")
        _write_inputs(folder, data)

    stage = run_stage("model", key, build)
    shutil.rmtree(work, ignore_errors=True)
    return stage


def _ignore_trial(trial: TrialRecord) -> None:
    """Members report their trials when they are trained for themselves, or are recorded."""


def _write_inputs(folder: Path, data: FoldData) -> None:
    """Say on which windows a model is trained, whose key does not reveal it."""
    write_json(folder / INPUTS, {"windows": data.windows.key})


class _Search(NamedTuple):
    """A finished search, with the scaled and weighted parts that the best model predicts."""

    scaler: Scaler | None
    valid: Sequences
    test: Sequences
    tuned: TuningResult
    completeness: Completeness | None


def _search(
    config: ExperimentConfig,
    name: str,
    data: FoldData,
    *,
    work: Path,
    progress: Progress,
    on_trial: TrialCallback = lambda trial: None,
    storage: str | None = None,
    members: Mapping[str, Path],
) -> _Search:
    """Tune the model; with the URL of a shared Optuna ``storage``, together with other workers."""
    model = config.models[name]
    train, valid, test = data.load_parts()
    left_out = list_left_out_groups(config, name, data.extract, train, valid)
    completeness = estimate_completeness(train, config.task)
    valid, test = apply_weights(valid, completeness), apply_weights(test, completeness)
    scaler = Scaler.fit(train) if MODELS.get(model.kind).capabilities.scaled else None
    if scaler:
        train = scaler.transform(train)
        valid = scaler.transform(valid)
        test = scaler.transform(test)
    fit = choose_fit(model.kind, config.compute, data.windows, progress)
    if fit is fit_here:
        train, valid, test = place_inputs((train, valid, test), config.compute, progress)
    with _search_time(config, name, data) as time:
        tuned = tune(
            model.kind,
            model,
            time.tuning,
            train,
            valid,
            seed=config.seed,
            score=make_tuning_score(config, valid),
            folder=work,
            device=resolve_device(config, model),
            threads=config.compute.threads,
            on_trial=on_trial,
            progress=progress,
            storage=storage,
            members=members,
            left_out=left_out,
            fit=fit,
        )
        time.used_minutes = sum_minutes(asdict(trial) for trial in tuned.trials)
    return _Search(scaler, valid, test, tuned, completeness)


def _search_time(
    config: ExperimentConfig, name: str, data: FoldData
) -> AbstractContextManager[SearchTime]:
    """The time of the model's search, from that of the experiment."""
    if config.tuning.minutes is None:
        return nullcontext(SearchTime(config.tuning))
    keys = {model: training_key(config, model, data) for model in config.models}
    return search_time(config, name, keys, data.count_folds(config))


def _save_development(
    config: ExperimentConfig,
    package: ModelPackage,
    data: FoldData,
    search: _Search,
    valid: StayRisks,
) -> None:
    """Write alert policy and subjects into the model package.

    Args:
        config: the experiment's configuration.
        package: the trained model.
        data: the fold's data.
        search: its completeness of windows.
        valid: the validation stays and their risks, which the policy is chosen on.
    """
    extract = open_extract(data.extract)
    split = data.load_split()
    subjects = np.union1d(split.train, split.valid).tolist()
    stays = extract.scan("stays").filter(pl.col("subject_id").is_in(subjects)).collect()
    development = Development(
        subjects=DevelopmentSubjects.from_stays(stays, package.training_key),
        policy=choose_policy(
            valid.stays, valid.risk, config.task, config.evaluation, config.alerting
        ),
        completeness=search.completeness,
        extract=extract.fingerprint,
    )
    development.save(package.folder)


def _check_applicable(config: ExperimentConfig, name: str) -> None:
    """Refuse a model whose family cannot predict the task's target.

    Before the first onset every earlier response is 0: a model that uses nothing but the response
    history has nothing to learn from.
    """
    if config.task.target not in MODELS.get(config.models[name].kind).capabilities.targets:
        raise CheckFailed(
            f"{name} predicts from the patient's earlier responses, "
            "and before a first onset these are all 0",
            where=f"task {config.task.name}, target {config.task.target.value}",
            todo=f"choose a task with target: state, such as next_day, or remove {name}",
        )


def _save_tuning(folder: Path, package: ModelPackage, tuned: TuningResult) -> None:
    """Save the model's tables (coefficients, learning curves, ...) and its trials."""
    (folder / "tables").mkdir()
    for table, frame in package.model.tables().items():
        frame.write_parquet(folder / "tables" / f"{table}.parquet")
    trials = [asdict(trial) for trial in tuned.trials]
    write_json(
        folder / "tuning.json", {"params": tuned.params, "value": tuned.value, "trials": trials}
    )


def load_probabilities(model: Stage, part: str) -> Floats:
    """The trained model's probabilities of the ``valid`` or ``test`` rows, shape (N,)."""
    return np.asarray(np.load(model.folder / f"{part}.npy", allow_pickle=False), np.float64)


def load_params(model: Stage) -> dict[str, Any]:
    """The trained model's parameters, chosen by tuning or configured."""
    return dict(read_json(model.folder / "tuning.json")["params"])


def load_policy(model: Stage) -> AlertPolicy:
    """The trained model's alert policy."""
    return Development.load(model.folder / "model_package").policy


def load_trials(model: Stage) -> list[TrialRecord]:
    """The finished trials of a trained model."""
    trials = []
    for record in read_json(model.folder / "tuning.json")["trials"]:
        record["state"] = TrialState(record["state"])
        record["curve"] = {int(epoch): value for epoch, value in record["curve"].items()}
        trials.append(TrialRecord(**record))
    return trials
