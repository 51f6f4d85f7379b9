"""Read the MLflow record of an experiment: configuration, fingerprints, metrics and files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel

from flowsheet.config.validation import validate_recorded
from flowsheet.errors import CheckFailed, UsageError
from flowsheet.state.json_files import read_json
from flowsheet.tracking.run_metadata import shorten_code_version
from flowsheet.tracking.store import RetryingClient, as_default, connect, is_empty

_VERSION = re.compile(r"^(?:models:/)?(?P<name>[^/@]+)(?:/(?P<version>\d+)|@(?P<alias>[\w.-]+))$")
_RUN_ID = re.compile(r"[0-9a-f]{8,32}")
M = TypeVar("M", bound=BaseModel)
LATEST = "latest"
"""Reference of the experiment that was started last."""
_FINGERPRINT = "fingerprint."
TRIALS = "tuning.trials"
"""Metric of the runs of models and folds: the number of finished trials."""
EXTRACT_STAGE = "flowsheet.extract_stage"
"""Tag of an experiment's run: key of the stage with its cohort extract."""


@dataclass(frozen=True)
class RunRecord:
    """The record of an experiment's run, for all or one of its models."""

    run_id: str
    experiment: str
    models: tuple[str, ...]
    """All models of an experiment, or the one of the referenced model run or version."""
    label: str
    """Short form of the reference, which distinguishes models of the same name."""
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    params: Mapping[str, str]
    tags: Mapping[str, str]
    started_at: int = 0
    """Milliseconds since 1970."""

    @property
    def fingerprints(self) -> dict[str, str]:
        """{records, extract, windows, split: fingerprint}."""
        return {
            name.removeprefix(_FINGERPRINT): value
            for name, value in self.params.items()
            if name.startswith(_FINGERPRINT)
        }

    @property
    def code(self) -> dict[str, str]:
        """Package version and, of a checkout, commit and whether it had changes."""
        return shorten_code_version(self.tags)

    def read_config(self, part: str, cls: type[M]) -> M:
        """A part of the recorded configuration, such as ``task``.

        Raises:
            CheckFailed: another release recorded it, and this one does not understand it.
        """
        return validate_recorded(cls, self.config[part], f"run {self.run_id}, {part}")

    def model_run_ids(self) -> list[str]:
        """The runs of its models, sorted by model."""
        runs = _search_model_runs(connect(), self.run_id)
        model_runs = {run.data.tags["flowsheet.model"]: run.info.run_id for run in runs}
        return [model_runs[model] for model in self.models if model in model_runs]

    def metrics(self) -> dict[str, dict[str, float]]:
        """{model: {metric: value}} on the held-out subjects."""
        recorded = {
            run.data.tags["flowsheet.model"]: run.data.metrics
            for run in _search_model_runs(connect(), self.run_id)
        }
        return {
            model: {k: v for k, v in sorted(recorded[model].items()) if k.startswith("test.")}
            for model in self.models
            if model in recorded
        }

    def count_trials(self) -> dict[str, int]:
        """{model, with the name of its fold: finished trials}, as far as that was recorded."""
        client = connect()
        counts = {}
        for run in _search_model_runs(client, self.run_id):
            model = run.data.tags["flowsheet.model"]
            folds = _search_fold_runs(client, run)
            runs = {"": run} | {f" {fold.data.tags['flowsheet.fold']}": fold for fold in folds}
            for label, trained in runs.items():
                if TRIALS in trained.data.metrics:
                    counts[f"{model}{label}"] = int(trained.data.metrics[TRIALS])
        return counts

    def download_artifacts(self, name: str, into: Path) -> Path:
        """Download the artifacts below ``name`` to the folder ``into``.

        Raises:
            CheckFailed: the run has none.
        """
        client = connect()
        if not client.list_artifacts(self.run_id, name):
            raise CheckFailed(
                f"the run has no artifacts {name!r}",
                where=f"run {self.run_id}",
                todo="run the experiment again until it finishes",
            )
        with as_default():
            return Path(client.download_artifacts(self.run_id, name, str(into)))


def load_run_record(reference: str, into: Path) -> RunRecord:
    """Load the record that a reference points to.

    Args:
        reference: id of an experiment's or a model's run (the first eight characters or more),
            ``latest`` for the experiment that was started last, or ``NAME/VERSION`` or
            ``NAME@ALIAS`` of the model registry, with or without ``models:/``.
        into: folder for downloaded files.

    Raises:
        UsageError: there is no such run or version, or it does not belong to an experiment.
    """
    client = connect()
    if reference == LATEST:
        reference = find_latest_run()
    version = _VERSION.match(reference)
    run = _find_version_run(client, reference, version) if version else _find_run(client, reference)
    label = reference.removeprefix("models:/") if version else run.info.run_id[:8]
    model = run.data.tags.get("flowsheet.model")
    while "mlflow.parentRunId" in run.data.tags:
        run = client.get_run(run.data.tags["mlflow.parentRunId"])
        model = model or run.data.tags.get("flowsheet.model")
    if run.data.tags.get("flowsheet.level") != "experiment":
        raise UsageError(
            f"{reference!r} is not a run of an experiment", todo="see `flowsheet ls runs`"
        )
    run_id = run.info.run_id
    with as_default():
        config = client.download_artifacts(run_id, "config.yaml", str(into))
        environment = client.download_artifacts(run_id, "environment.json", str(into))
    return RunRecord(
        run_id=run_id,
        experiment=client.get_experiment(run.info.experiment_id).name,
        models=(model,) if model else _list_models(client, run_id),
        label=label,
        config=yaml.safe_load(Path(config).read_text(encoding="utf-8")),
        environment=read_json(Path(environment)),
        params=run.data.params,
        tags=run.data.tags,
        started_at=run.info.start_time,
    )


def _find_run(client: RetryingClient, reference: str) -> Any:
    """The run whose id begins with the reference."""
    if _RUN_ID.fullmatch(reference):
        experiments = [e.experiment_id for e in client.search_experiments(max_results=1000)]
        query = "tags.`flowsheet.level` != 'trial'"
        runs = client.search_runs(experiments, query, max_results=10_000)
        matching = [run for run in runs if run.info.run_id.startswith(reference)]
        if len(matching) == 1:
            return matching[0]
    raise UsageError(
        f"there is no run {reference!r}",
        todo="give the id of a run (see `flowsheet ls runs`), latest, "
        "or NAME/VERSION or NAME@ALIAS (see `flowsheet ls registry`)",
    )


def _find_version_run(client: RetryingClient, reference: str, parts: re.Match[str]) -> Any:
    """The run of a registered model version."""
    from mlflow.exceptions import MlflowException

    try:
        if parts["alias"]:
            version = client.get_model_version_by_alias(parts["name"], parts["alias"])
        else:
            version = client.get_model_version(parts["name"], parts["version"])
    except MlflowException:
        raise UsageError(
            f"there is no registered model {reference!r}", todo="see `flowsheet ls registry`"
        ) from None
    return client.get_run(version.run_id)


def _list_models(client: RetryingClient, run_id: str) -> tuple[str, ...]:
    runs = _search_model_runs(client, run_id)
    return tuple(sorted(run.data.tags["flowsheet.model"] for run in runs))


def _search_model_runs(client: RetryingClient, run_id: str) -> list[Any]:
    experiment = client.get_run(run_id).info.experiment_id
    query = f"tags.`flowsheet.level` = 'model' and tags.`mlflow.parentRunId` = '{run_id}'"
    return list(client.search_runs([experiment], query, max_results=1000))


def _search_fold_runs(client: RetryingClient, model_run: Any) -> list[Any]:
    parent = f"tags.`mlflow.parentRunId` = '{model_run.info.run_id}'"
    query = f"tags.`flowsheet.level` = 'fold' and {parent}"
    return list(client.search_runs([model_run.info.experiment_id], query, max_results=10_000))


def list_extracts_of_registered_models() -> dict[str, str]:
    """{key of the stage of an extract: ``NAME/VERSION`` of a model that was trained on it}."""
    if is_empty():
        return {}
    client = connect()
    extracts: dict[str, str] = {}
    for model in client.search_registered_models(max_results=1000):
        for version in client.search_model_versions(f"name = '{model.name}'", max_results=10_000):
            run = client.get_run(version.run_id)
            while "mlflow.parentRunId" in run.data.tags:
                run = client.get_run(run.data.tags["mlflow.parentRunId"])
            if key := run.data.tags.get(EXTRACT_STAGE):
                extracts[key] = f"{model.name}/{version.version}"
    return extracts


def find_latest_run() -> str:
    """The id of the experiment run that was started last.

    Raises:
        UsageError: there is none.
    """
    if not is_empty():
        client = connect()
        experiments = [e.experiment_id for e in client.search_experiments(max_results=1000)]
        query = "tags.`flowsheet.level` = 'experiment'"
        runs = client.search_runs(
            experiments, query, max_results=1, order_by=["attributes.start_time DESC"]
        )
        if runs:
            return str(runs[0].info.run_id)
    raise UsageError("there is no run yet", todo="start one with flowsheet run")
