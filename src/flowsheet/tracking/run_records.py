"""What was recorded, read again: an experiment's choices, fingerprints, figures and files, from the tracker alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from flowsheet.errors import CheckFailed, UsageError
from flowsheet.state.json_files import read_json
from flowsheet.tracking.store import RetryingClient, as_default, connect

_VERSION = re.compile(r"^(?:models:/)?(?P<name>[^/@]+)(?:/(?P<version>\d+)|@(?P<alias>[\w.-]+))$")


@dataclass(frozen=True)
class RunRecord:
    """An experiment's run, and which of its models are meant."""

    run_id: str
    experiment: str
    models: tuple[str, ...]
    """Those that the reference means: all of an experiment's, or the one of a model's run or version."""
    label: str
    """What the reference calls itself, for telling models of one name apart."""
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    params: Mapping[str, str]
    tags: Mapping[str, str]

    @property
    def fingerprints(self) -> dict[str, str]:
        """Of records, extract, windows and split."""
        return {
            k.removeprefix("fingerprint."): v
            for k, v in self.params.items()
            if k.startswith("fingerprint.")
        }

    @property
    def code(self) -> dict[str, str]:
        """Package version, and the commit where there was one."""
        names = {
            "flowsheet.version": "version",
            "mlflow.source.git.commit": "commit",
            "flowsheet.git.dirty": "changed",
        }
        return {short: self.tags[name] for name, short in names.items() if name in self.tags}

    def metrics(self) -> dict[str, dict[str, float]]:
        """{model: {figure: value}} of the held-out subjects."""
        client = connect()
        held = {
            run.data.tags["flowsheet.model"]: run.data.metrics
            for run in _children(client, self.run_id)
        }
        return {
            name: {k: v for k, v in sorted(held[name].items()) if k.startswith("test.")}
            for name in self.models
            if name in held
        }

    def download_artifacts(self, name: str, into: Path) -> Path:
        """Copy the artifacts below ``name`` to the folder ``into``.

        Raises:
            CheckFailed: the run keeps none.
        """
        client = connect()
        if not client.list_artifacts(self.run_id, name):
            raise CheckFailed(
                f"the run keeps no {name}",
                where=f"run {self.run_id}",
                todo="run the experiment again to its end",
            )
        with as_default():
            return Path(client.download_artifacts(self.run_id, name, str(into)))


def load_run_record(reference: str, into: Path) -> RunRecord:
    """What a run id or the name of a registered version means.

    A reference is the id of an experiment's or a model's run (its first eight characters or more
    will do), ``NAME/VERSION`` or ``NAME@ALIAS`` of the registry, with or without ``models:/``.
    Files go to the folder ``into``.

    Raises:
        UsageError: there is no such run or version, or it is not one of an experiment.
    """
    client = connect()
    version = _VERSION.match(reference)
    run = _version_run(client, reference, version) if version else _run(client, reference)
    model = run.data.tags.get("flowsheet.model")
    label = reference.removeprefix("models:/") if version else run.info.run_id[:8]
    while "mlflow.parentRunId" in run.data.tags:
        run = client.get_run(run.data.tags["mlflow.parentRunId"])
        model = model or run.data.tags.get("flowsheet.model")
    if run.data.tags.get("flowsheet.level") != "experiment":
        raise UsageError(
            f"{reference!r} is not a run of an experiment", todo="see `flowsheet ls runs`"
        )
    with as_default():
        config = client.download_artifacts(run.info.run_id, "config.yaml", str(into))
        around = client.download_artifacts(run.info.run_id, "environment.json", str(into))
    every = sorted(
        child.data.tags["flowsheet.model"] for child in _children(client, run.info.run_id)
    )
    return RunRecord(
        run_id=run.info.run_id,
        experiment=client.get_experiment(run.info.experiment_id).name,
        models=(model,) if model else tuple(every),
        label=label,
        config=yaml.safe_load(Path(config).read_text()),
        environment=read_json(Path(around)),
        params=run.data.params,
        tags=run.data.tags,
    )


def _run(client: RetryingClient, reference: str) -> Any:
    if re.fullmatch(r"[0-9a-f]{8,32}", reference):
        experiments = [e.experiment_id for e in client.search_experiments(max_results=1000)]
        found = [
            run
            for run in client.search_runs(
                experiments, "tags.`flowsheet.level` != 'trial'", max_results=10_000
            )
            if run.info.run_id.startswith(reference)
        ]
        if len(found) == 1:
            return found[0]
    raise UsageError(
        f"there is no run {reference!r}",
        todo="give a run's id (see `flowsheet ls runs`), or NAME/VERSION or NAME@ALIAS (see `flowsheet ls registry`)",
    )


def _version_run(client: RetryingClient, reference: str, parts: re.Match[str]) -> Any:
    from mlflow.exceptions import MlflowException

    try:
        if parts["alias"]:
            version = client.get_model_version_by_alias(parts["name"], parts["alias"])
        else:
            version = client.get_model_version(parts["name"], parts["version"])
    except MlflowException:
        raise UsageError(
            f"there is no registered {reference!r}", todo="see `flowsheet ls registry`"
        ) from None
    return client.get_run(version.run_id)


def _children(client: RetryingClient, run_id: str) -> list[Any]:
    experiment = client.get_run(run_id).info.experiment_id
    wanted = f"tags.`flowsheet.level` = 'model' and tags.`mlflow.parentRunId` = '{run_id}'"
    return list(client.search_runs([experiment], wanted, max_results=1000))
