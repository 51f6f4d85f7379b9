"""An experiment as an MLflow run: a child a model, a grandchild a trial.

Every call may be repeated: runs are found by their tags before they are made, and what is already
recorded is not recorded again. So a run that was killed is taken up where it was.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol

from flowsheet.config import ExperimentConfig
from flowsheet.environment import user_name
from flowsheet.errors import mask_secrets
from flowsheet.state.json_files import write_json
from flowsheet.timestamps import format_local_minute
from flowsheet.tracking import stale_runs
from flowsheet.tracking.run_metadata import (
    collect_code_version,
    collect_environment,
    flatten,
    freeze_requirements,
    get_experiment_params,
)
from flowsheet.tracking.store import (
    RetryingClient,
    artifact_root,
    connect,
    ignore_already_exists,
    is_embedded,
    is_empty,
    store_lock,
)

Level = Literal["experiment", "model", "fold", "trial", "comparison", "event"]
_DIGEST_LENGTH = 36  # longer ones do not fit MLflow's column


class Trial(Protocol):
    """What a finished trial must tell (``flowsheet.tuning.records.TrialRecord`` does)."""

    @property
    def number(self) -> int:
        """Its place among the finished ones."""

    @property
    def state(self) -> str:
        """complete, pruned or failed."""

    @property
    def params(self) -> Mapping[str, Any]:
        """All of the model's parameters."""

    @property
    def value(self) -> float | None:
        """The monitored metric."""

    @property
    def seconds(self) -> float:
        """How long it took."""

    @property
    def curve(self) -> Mapping[int, float]:
        """Reported values by epoch or round."""

    @property
    def error(self) -> str | None:
        """Why it failed."""


@dataclass(frozen=True)
class DataSet:
    """Data that a run used, without any of its rows."""

    name: str
    digest: str
    source: str
    context: str = "training"
    counts: Mapping[str, int] | None = None


@dataclass(frozen=True)
class ParentRun:
    """The run of an experiment."""

    run_id: str
    experiment_id: str
    finished: bool
    """It was finished by an earlier call with the same key: nothing is left to record."""


class Tracker:
    """Records experiments in the store."""

    def __init__(self, client: RetryingClient) -> None:
        self._client = client

    @classmethod
    def open(cls) -> Tracker:
        """A tracker on the configured store."""
        return cls(connect())

    def start_experiment_run(
        self,
        config: ExperimentConfig,
        key: str,
        fingerprints: Mapping[str, str] | None = None,
        data: Iterable[DataSet] = (),
        tags: Mapping[str, str] | None = None,
        *,
        run_lock: str = "",
    ) -> ParentRun:
        """The experiment's run: the one with this key, or a new one.

        ``key`` stands for everything that the experiment's results depend on. ``fingerprints``
        (data, split, ...) become parameters. Configuration, installed versions and environment are
        kept as artifacts. ``run_lock`` says whose run it is while it goes on, for
        :meth:`close_stale_runs`.
        """
        experiment_id = self._experiment(config.name)
        with store_lock():
            held = self._find(experiment_id, "experiment", {"flowsheet.key": key})
            run_id = held.info.run_id if held else self._create(
                experiment_id, "experiment", f"{config.name} {key[:8]}",
                {"flowsheet.key": key, stale_runs.RUN_LOCK: run_lock, "mlflow.source.name": f"flowsheet run {config.name}"},
            )  # fmt: skip
        if held and held.info.status == "FINISHED":
            return ParentRun(run_id, experiment_id, finished=True)
        self._client.update_run(run_id, status="RUNNING")
        self._inputs(run_id, data)
        self.log(
            run_id,
            params={**get_experiment_params(config), **(fingerprints or {})},
            tags={**collect_code_version(), **(tags or {}), stale_runs.RUN_LOCK: run_lock},
        )
        self._record(run_id, config)
        if config.description:
            self._client.set_tag(run_id, "mlflow.note.content", config.description)
        return ParentRun(run_id, experiment_id, finished=False)

    def start_comparison_run(self, experiment: str, key: str, runs: Mapping[str, str]) -> ParentRun:
        """The run of a comparison of ``runs`` ({run id: experiment}): the one with this key, or a new one."""
        experiment_id = self._experiment(experiment)
        held = self._find(experiment_id, "comparison", {"flowsheet.key": key})
        if held:
            return ParentRun(
                held.info.run_id, experiment_id, finished=held.info.status == "FINISHED"
            )
        tags = {"flowsheet.key": key, "mlflow.source.name": "flowsheet compare"}
        run_id = self._create(
            experiment_id, "comparison", " and ".join(sorted({*runs.values()}))[:200], tags
        )
        self.log(
            run_id,
            params={f"run.{i}": run for i, run in enumerate(runs)},
            tags=collect_code_version(),
        )
        return ParentRun(run_id, experiment_id, finished=False)

    def add_event_run(self, experiment: str, title: str, tags: Mapping[str, str]) -> str:
        """A finished run that holds tags only."""
        run_id = self._create(self._experiment(experiment), "event", title, tags)
        self.finish(run_id)
        return run_id

    def list_event_tags(self, experiment: str) -> list[dict[str, str]]:
        """The tags of all notes."""
        held = self._client.get_experiment_by_name(experiment)
        return (
            [dict(run.data.tags) for run in self._below(held.experiment_id, "event", {})]
            if held
            else []
        )

    def start_model_run(
        self, parent_id: str, name: str, training_key: str, params: Mapping[str, Any] | None = None
    ) -> str:
        """The run of one model below its experiment's; ``params`` as ``model.<name>``."""
        experiment_id = self._client.get_run(parent_id).info.experiment_id
        tags = {
            "mlflow.parentRunId": parent_id,
            "flowsheet.model": name,
            "flowsheet.training_key": training_key,
        }
        held = self._find(experiment_id, "model", tags)
        run_id = str(held.info.run_id) if held else self._create(experiment_id, "model", name, tags)
        self.log(run_id, params={"model": name, **flatten(params or {}, "model.")})
        return run_id

    def start_fold_run(self, model_run_id: str, name: str, fold: str, training_key: str) -> str:
        """The run of one model in one fold or replicate, below the model's own."""
        experiment_id = self._client.get_run(model_run_id).info.experiment_id
        tags = {
            "mlflow.parentRunId": model_run_id,
            "flowsheet.fold": fold,
            "flowsheet.training_key": training_key,
        }
        held = self._find(experiment_id, "fold", tags)
        run_id = (
            str(held.info.run_id)
            if held
            else self._create(experiment_id, "fold", f"{name} {fold}", tags)
        )
        self.log(run_id, params={"model": name, "fold": fold})
        return run_id

    def sync_trials(self, run_id: str, metric: str, trials: Iterable[Trial]) -> None:
        """Record the trials that are not yet recorded below a model's run."""
        experiment_id = self._client.get_run(run_id).info.experiment_id
        below = self._below(experiment_id, "trial", {"mlflow.parentRunId": run_id})
        held = {run.data.tags["flowsheet.trial"]: run.info for run in below}
        for trial in trials:
            info = held.get(str(trial.number))
            if info is None or info.status not in {"FINISHED", "FAILED"}:
                tags = {"mlflow.parentRunId": run_id, "flowsheet.trial": str(trial.number)}
                begun = (
                    info.run_id
                    if info
                    else self._create(experiment_id, "trial", f"trial {trial.number}", tags)
                )
                self._trial(begun, metric, trial)

    def log(
        self,
        run_id: str,
        *,
        params: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float | None] | None = None,
        tags: Mapping[str, str] | None = None,
        curves: Mapping[str, Mapping[int, float]] | None = None,
    ) -> None:
        """Add values to a run; a parameter that it has keeps its value, a metric that is not estimable is left out."""
        from mlflow.entities import Metric, Param, RunTag

        run = self._client.get_run(run_id)
        # one time for all of a run's values: a value that is logged again is then the same value, not a second one
        at = run.info.start_time
        points = [(name, value, 0) for name, value in (metrics or {}).items() if value is not None]
        points += [
            (name, value, step)
            for name, curve in (curves or {}).items()
            for step, value in curve.items()
        ]
        new = {
            name: str(value)
            for name, value in (params or {}).items()
            if name not in run.data.params
        }
        every: list[Any] = [
            Metric(name, float(v), at, step) for name, v, step in points if math.isfinite(v)
        ]
        every += [Param(name, value) for name, value in new.items()]
        every += [RunTag(name, value) for name, value in (tags or {}).items()]
        for start in range(
            0, len(every), 100
        ):  # the most parameters or tags that a server takes at once
            some = every[start : start + 100]
            self._client.log_batch(
                run_id,
                metrics=[entity for entity in some if isinstance(entity, Metric)],
                params=[entity for entity in some if isinstance(entity, Param)],
                tags=[entity for entity in some if isinstance(entity, RunTag)],
            )

    def log_artifacts(self, run_id: str, folder: Path, name: str | None = None) -> None:
        """Keep a folder's files as artifacts, below ``name``."""
        self._client.log_artifacts(run_id, str(folder), name)

    def set_description(self, run_id: str, markdown: str) -> None:
        """What the run's page says first."""
        self._client.set_tag(run_id, "mlflow.note.content", markdown)

    def finish(self, run_id: str) -> None:
        """The run ended well."""
        self._client.set_terminated(run_id, "FINISHED")

    def fail(self, run_id: str, reason: str, *, killed: bool = False) -> None:
        """The run ended otherwise, and with it what is below; a later one with the same key takes it up."""
        self.close_child_runs(run_id)
        self._client.set_tag(run_id, "flowsheet.error", mask_secrets(reason)[:5000])
        self._client.set_terminated(run_id, "KILLED" if killed else "FAILED")

    def close_child_runs(self, run_id: str) -> None:
        """End the open runs below one: nobody works on them any more, or a server that was killed made them twice."""
        stale_runs.close_child_runs(self._client, run_id)

    def close_stale_runs(self, is_stale: stale_runs.IsStale) -> None:
        """End the runs that a kill has left open; ``is_stale`` tells of a ``run_lock`` whether it is gone."""
        for run_id in stale_runs.find_killed_runs(self._client, is_stale):
            self.fail(run_id, "its process was killed", killed=True)

    def _trial(self, run_id: str, metric: str, trial: Trial) -> None:
        self.log(
            run_id,
            params=flatten(trial.params, "model."),
            metrics={f"valid.{metric}": trial.value, "seconds": trial.seconds},
            curves={f"epoch.{metric}": trial.curve},
            tags={
                "flowsheet.state": trial.state,
                **({"flowsheet.error": mask_secrets(trial.error)} if trial.error else {}),
            },
        )
        self._client.set_terminated(run_id, "FAILED" if trial.state == "failed" else "FINISHED")

    def _create(self, experiment_id: str, level: Level, name: str, tags: Mapping[str, str]) -> str:
        common = {
            "flowsheet.level": level,
            "mlflow.source.type": "LOCAL",
            "mlflow.user": user_name(),
        }
        run = self._client.create_run(experiment_id, tags={**common, **tags}, run_name=name)
        return str(run.info.run_id)

    def _find(self, experiment_id: str, level: Level, tags: Mapping[str, str]) -> Any | None:
        found = self._below(experiment_id, level, tags)
        return found[0] if found else None

    def _below(self, experiment_id: str, level: Level, tags: Mapping[str, str]) -> list[Any]:
        wanted = {"flowsheet.level": level, **tags}
        text = " and ".join(f"tags.`{name}` = '{value}'" for name, value in wanted.items())
        return list(self._client.search_runs([experiment_id], text, max_results=10_000))

    def _experiment(self, name: str) -> str:
        with store_lock():
            held = self._client.get_experiment_by_name(name)
            if held is None:
                place = f"{artifact_root()}/{name}" if is_embedded() else None
                with ignore_already_exists():
                    self._client.create_experiment(name, artifact_location=place)
                held = self._client.get_experiment_by_name(name)
            if held.lifecycle_stage == "deleted":
                self._client.restore_experiment(held.experiment_id)
            return str(held.experiment_id)

    def _inputs(self, run_id: str, data: Iterable[DataSet]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        inputs = [
            DatasetInput(
                Dataset(
                    d.name, d.digest[:_DIGEST_LENGTH], "flowsheet", d.source, profile=_profile(d)
                ),
                [InputTag("mlflow.data.context", d.context)],
            )
            for d in data
        ]
        if inputs:
            self._client.log_inputs(run_id, inputs)

    def _record(self, run_id: str, config: ExperimentConfig) -> None:
        from omegaconf import OmegaConf

        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            OmegaConf.save(OmegaConf.create(config.model_dump(mode="json")), folder / "config.yaml")
            write_json(folder / "environment.json", collect_environment())
            (folder / "requirements.txt").write_text(freeze_requirements())
            self.log_artifacts(run_id, folder)


def list_runs(limit: int = 50) -> tuple[list[str], list[list[str]]]:
    """The latest experiments' runs, newest first: header and rows."""
    header = ["run", "experiment", "status", "started", "minutes", "best"]
    if is_empty():
        return header, []
    client = connect()
    names = {e.experiment_id: e.name for e in client.search_experiments(max_results=1000)}
    runs = client.search_runs(
        list(names),
        "tags.`flowsheet.level` = 'experiment'",
        max_results=limit,
        order_by=["attributes.start_time DESC"],
    )
    return header, [_row(run, names) for run in runs]


def _row(run: Any, names: Mapping[str, str]) -> list[str]:
    info = run.info
    started = format_local_minute(datetime.fromtimestamp(info.start_time / 1000, UTC))
    minutes = f"{(info.end_time - info.start_time) / 60_000:.1f}" if info.end_time else ""
    best = run.data.tags.get("flowsheet.best", "")
    return [info.run_id, names[info.experiment_id], info.status.lower(), started, minutes, best]


def _profile(data: DataSet) -> str | None:
    import json

    return json.dumps(dict(data.counts)) if data.counts else None
