"""Record an experiment as MLflow runs: a child run a model, a grandchild run a trial.

Every call can be repeated: a run is looked up by its tags before it is created, and values that
are recorded already are not recorded again. So an interrupted run is resumed where it stopped.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from flowsheet.config import ExperimentConfig
from flowsheet.environment import user_name
from flowsheet.errors import mask_secrets
from flowsheet.state.json_files import write_json
from flowsheet.tracking import stale_runs
from flowsheet.tracking.datasets import DataSet
from flowsheet.tracking.experiments import ensure_experiment, save_models_view
from flowsheet.tracking.run_metadata import (
    collect_code_version,
    collect_environment,
    flatten,
    freeze_requirements,
    get_experiment_params,
)
from flowsheet.tracking.store import RetryingClient, connect, store_lock
from flowsheet.tracking.trials import Trial

Level = Literal["experiment", "model", "fold", "trial", "comparison", "evaluation", "event"]
"""What a run stands for; its tag ``flowsheet.level``."""
_ENTITIES_PER_REQUEST = 100
"""A server accepts at most so many parameters or tags at once."""
_ENDED = {"FINISHED", "FAILED"}

_MAX_DESCRIPTION = 8000
"""Characters of a tag's value that MLflow keeps."""
_MORE = "\n\nThe rest is in the report, among the artifacts."


@dataclass(frozen=True)
class ParentRun:
    """The run of an experiment or of a comparison."""

    run_id: str
    experiment_id: str
    finished: bool
    """An earlier call with the same key has finished it: there is nothing left to record."""


class Tracker:
    """Records runs in MLflow."""

    def __init__(self, client: RetryingClient) -> None:
        self._client = client

    @classmethod
    def open(cls) -> Tracker:
        """A tracker on the configured store."""
        return cls(connect())

    # Runs of experiments, models, folds and trials

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
        """Start the run of an experiment, or resume the one with this key.

        Configuration, environment and installed packages become its artifacts.

        Args:
            config: the experiment.
            key: digest of everything that the experiment's results depend on.
            fingerprints: {name: fingerprint} of records, extract, windows and split; they become
                parameters.
            data: the data sets that it uses.
            tags: further tags.
            run_lock: lock of the experiment, by which :meth:`close_stale_runs` finds out whether
                the run's process still exists.
        """
        experiment_id = ensure_experiment(self._client, config.name)
        save_models_view(self._client, experiment_id, config)
        lock_tag = {stale_runs.RUN_LOCK: run_lock}
        with store_lock():
            run = self._find_run(experiment_id, "experiment", {"flowsheet.key": key})
            if run:
                run_id = str(run.info.run_id)
            else:
                source = {"mlflow.source.name": f"flowsheet run {config.name}"}
                run_id = self._create_run(
                    experiment_id,
                    "experiment",
                    f"{config.name} {key[:8]}",
                    {"flowsheet.key": key, **source, **lock_tag},
                )
        if run and run.info.status == "FINISHED":
            return ParentRun(run_id, experiment_id, finished=True)
        self._client.update_run(run_id, status="RUNNING")
        inputs = [data_set.to_mlflow() for data_set in data]
        if inputs:
            self._client.log_inputs(run_id, inputs)
        self.log(
            run_id,
            params={**get_experiment_params(config), **(fingerprints or {})},
            tags={**collect_code_version(), **(tags or {}), **lock_tag},
        )
        self._log_configuration(run_id, config)
        if config.description:
            self.set_description(run_id, config.description)
        return ParentRun(run_id, experiment_id, finished=False)

    def start_model_run(
        self, parent_id: str, name: str, training_key: str, params: Mapping[str, Any] | None = None
    ) -> str:
        """Start, or find, the run of a model below its experiment's run; returns its id.

        Args:
            parent_id: the experiment's run.
            name: the model's name in the experiment.
            training_key: stage key of the training.
            params: the model's parameters; recorded as ``model.<name>``.
        """
        tags = {"flowsheet.model": name, "flowsheet.training_key": training_key}
        run_id = self._ensure_child_run(parent_id, "model", name, tags)
        self.log(run_id, params={"model": name, **flatten(params or {}, "model.")})
        return run_id

    def start_fold_run(self, model_run_id: str, name: str, fold: str, training_key: str) -> str:
        """Start, or find, the run of a model in one fold or replicate; returns its id.

        Args:
            model_run_id: the model's run, which is its parent.
            name: the model's name in the experiment.
            fold: label of the fold or replicate.
            training_key: stage key of the training.
        """
        tags = {"flowsheet.fold": fold, "flowsheet.training_key": training_key}
        run_id = self._ensure_child_run(model_run_id, "fold", f"{name} {fold}", tags)
        self.log(run_id, params={"model": name, "fold": fold})
        return run_id

    def sync_trials(self, run_id: str, metric: str, trials: Iterable[Trial]) -> None:
        """Record the trials that are not recorded yet, as runs below a model's or fold's run.

        Args:
            run_id: the parent run.
            metric: name of the tuned metric.
            trials: finished trials.
        """
        experiment_id = self._get_experiment_id(run_id)
        runs = self._search_runs(experiment_id, "trial", {"mlflow.parentRunId": run_id})
        recorded = {run.data.tags["flowsheet.trial"]: run.info for run in runs}
        for trial in trials:
            info = recorded.get(str(trial.number))
            if info is None:
                tags = {"mlflow.parentRunId": run_id, "flowsheet.trial": str(trial.number)}
                name = f"trial {trial.number}"
                trial_run_id = self._create_run(experiment_id, "trial", name, tags)
                self._log_trial(trial_run_id, metric, trial)
            elif info.status not in _ENDED:
                self._log_trial(info.run_id, metric, trial)

    # Other runs

    def start_comparison_run(self, experiment: str, key: str, runs: Mapping[str, str]) -> ParentRun:
        """Start the run of a comparison, or find the one with this key.

        Args:
            experiment: MLflow experiment of the comparison.
            key: digest of everything that the comparison depends on.
            runs: {run id: experiment} of the compared runs.
        """
        experiment_id = ensure_experiment(self._client, experiment)
        run = self._find_run(experiment_id, "comparison", {"flowsheet.key": key})
        if run:
            return ParentRun(run.info.run_id, experiment_id, run.info.status == "FINISHED")
        tags = {"flowsheet.key": key, "mlflow.source.name": "flowsheet compare"}
        name = " and ".join(sorted(set(runs.values())))[:200]
        run_id = self._create_run(experiment_id, "comparison", name, tags)
        params = {f"run.{i}": compared for i, compared in enumerate(runs)}
        self.log(run_id, params=params, tags=collect_code_version())
        return ParentRun(run_id, experiment_id, finished=False)

    def start_evaluation_run(self, model_run_id: str, title: str, tags: Mapping[str, str]) -> str:
        """Start, or find, the run of an evaluation below a model's run; returns its id.

        Args:
            model_run_id: the model's run.
            title: its name.
            tags: what identifies it.
        """
        return self._ensure_child_run(model_run_id, "evaluation", title, tags)

    def list_evaluation_runs(self, model_run_id: str) -> list[Any]:
        """The runs of evaluations below a model's run."""
        experiment_id = self._get_experiment_id(model_run_id)
        return self._search_runs(experiment_id, "evaluation", {"mlflow.parentRunId": model_run_id})

    def add_event_run(self, experiment: str, title: str, tags: Mapping[str, str]) -> str:
        """Add a finished run that consists of tags; returns its id.

        Args:
            experiment: its MLflow experiment.
            title: its name.
            tags: what happened.
        """
        run_id = self._create_run(ensure_experiment(self._client, experiment), "event", title, tags)
        self.finish(run_id)
        return run_id

    def list_event_tags(self, experiment: str) -> list[dict[str, str]]:
        """The tags of all event runs of an MLflow experiment."""
        stored = self._client.get_experiment_by_name(experiment)
        if stored is None:
            return []
        runs = self._search_runs(stored.experiment_id, "event", {})
        return [dict(run.data.tags) for run in runs]

    # Values and states of a run

    def log(
        self,
        run_id: str,
        *,
        params: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float | None] | None = None,
        tags: Mapping[str, str] | None = None,
        curves: Mapping[str, Mapping[int, float]] | None = None,
    ) -> None:
        """Add values to a run.

        Args:
            run_id: the run.
            params: {name: value}; a parameter that is recorded already keeps its value.
            metrics: {name: value}; None and NaN (not estimable) are left out.
            tags: {name: value}.
            curves: {metric: {step: value}}.
        """
        from mlflow.entities import Metric, Param, RunTag

        run = self._client.get_run(run_id)
        # always the same timestamp: a value that is logged twice does not become a second point
        timestamp = run.info.start_time
        entities: list[Any] = [
            Metric(name, float(value), timestamp, step)
            for name, value, step in _iter_points(metrics or {}, curves or {})
        ]
        new_params = {name: p for name, p in (params or {}).items() if name not in run.data.params}
        entities += [Param(name, str(value)) for name, value in new_params.items()]
        entities += [RunTag(name, value) for name, value in (tags or {}).items()]
        for start in range(0, len(entities), _ENTITIES_PER_REQUEST):
            self._log_batch(run_id, entities[start : start + _ENTITIES_PER_REQUEST])

    def log_artifacts(self, run_id: str, folder: Path, name: str | None = None) -> None:
        """Record a folder's files as artifacts below ``name``."""
        self._client.log_artifacts(run_id, str(folder), name)

    def log_table(self, run_id: str, columns: Mapping[str, Sequence[Any]], path: str) -> None:
        """Record a table as an artifact that MLflow's page shows as a table.

        ``MlflowClient.log_table`` would add its rows to those of an earlier call.

        Args:
            run_id: the run.
            columns: {column: values}.
            path: of the artifact; it ends with ``.json``.
        """
        table = {"columns": list(columns), "data": list(zip(*columns.values(), strict=True))}
        self._client.log_dict(run_id, table, path)
        logged = [{"path": path, "type": "table"}]
        self._client.set_tag(run_id, "mlflow.loggedArtifacts", json.dumps(logged))

    def set_description(self, run_id: str, markdown: str) -> None:
        """Set the description on a run's page; of a text that is too long, the first lines."""
        if len(markdown) > _MAX_DESCRIPTION:
            shown = markdown[: _MAX_DESCRIPTION - len(_MORE)]
            markdown = shown.rpartition("\n")[0] + _MORE
        self._client.set_tag(run_id, "mlflow.note.content", markdown)

    def finish(self, run_id: str) -> None:
        """Mark a run as finished."""
        self._client.set_terminated(run_id, "FINISHED")

    def fail(self, run_id: str, reason: str, *, killed: bool = False) -> None:
        """Mark a run as failed and close its child runs; a later run with the same key resumes it.

        Args:
            run_id: the run.
            reason: the error; secrets are masked.
            killed: it was killed or interrupted.
        """
        self.close_child_runs(run_id)
        self._client.set_tag(run_id, "flowsheet.error", mask_secrets(reason)[:5000])
        self._client.set_terminated(run_id, "KILLED" if killed else "FAILED")

    def close_child_runs(self, run_id: str) -> None:
        """Close the open runs below a run, such as duplicates from repeated requests."""
        stale_runs.close_child_runs(self._client, run_id)

    def close_stale_runs(self, is_stale: stale_runs.IsStale, minutes: float) -> None:
        """Close the open runs of killed processes.

        Args:
            is_stale: whether the process that had a run's lock is gone.
            minutes: after which an open run without a lock is closed.
        """
        for run_id, reason in stale_runs.find_killed_runs(self._client, is_stale, minutes):
            self.fail(run_id, reason, killed=True)

    def _log_batch(self, run_id: str, entities: Sequence[Any]) -> None:
        from mlflow.entities import Metric, Param, RunTag

        self._client.log_batch(
            run_id,
            metrics=[entity for entity in entities if isinstance(entity, Metric)],
            params=[entity for entity in entities if isinstance(entity, Param)],
            tags=[entity for entity in entities if isinstance(entity, RunTag)],
        )

    def _log_trial(self, run_id: str, metric: str, trial: Trial) -> None:
        tags = {"flowsheet.state": trial.state}
        if trial.error:
            tags["flowsheet.error"] = mask_secrets(trial.error)
        self.log(
            run_id,
            params=flatten(trial.params, "model."),
            metrics={f"valid.{metric}": trial.value, "seconds": trial.seconds},
            curves={f"epoch.{metric}": trial.curve},
            tags=tags,
        )
        self._client.set_terminated(run_id, "FAILED" if trial.state == "failed" else "FINISHED")

    def _log_configuration(self, run_id: str, config: ExperimentConfig) -> None:
        from omegaconf import OmegaConf

        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            OmegaConf.save(OmegaConf.create(config.model_dump(mode="json")), folder / "config.yaml")
            write_json(folder / "environment.json", collect_environment())
            (folder / "requirements.txt").write_text(freeze_requirements(), encoding="utf-8")
            self.log_artifacts(run_id, folder)

    def _ensure_child_run(
        self, parent_id: str, level: Level, name: str, tags: Mapping[str, str]
    ) -> str:
        experiment_id = self._get_experiment_id(parent_id)
        all_tags = {"mlflow.parentRunId": parent_id, **tags}
        run = self._find_run(experiment_id, level, all_tags)
        return (
            str(run.info.run_id) if run else self._create_run(experiment_id, level, name, all_tags)
        )

    def _create_run(
        self, experiment_id: str, level: Level, name: str, tags: Mapping[str, str]
    ) -> str:
        common = {
            "flowsheet.level": level,
            "mlflow.source.type": "LOCAL",
            "mlflow.user": user_name(),
        }
        run = self._client.create_run(experiment_id, tags={**common, **tags}, run_name=name)
        return str(run.info.run_id)

    def _find_run(self, experiment_id: str, level: Level, tags: Mapping[str, str]) -> Any | None:
        runs = self._search_runs(experiment_id, level, tags)
        return runs[0] if runs else None

    def _search_runs(self, experiment_id: str, level: Level, tags: Mapping[str, str]) -> list[Any]:
        conditions = {"flowsheet.level": level, **tags}
        query = " and ".join(f"tags.`{name}` = '{value}'" for name, value in conditions.items())
        return list(self._client.search_runs([experiment_id], query, max_results=10_000))

    def _get_experiment_id(self, run_id: str) -> str:
        return str(self._client.get_run(run_id).info.experiment_id)


def _iter_points(
    metrics: Mapping[str, float | None], curves: Mapping[str, Mapping[int, float]]
) -> Iterable[tuple[str, float, int]]:
    """(metric, value, step) of all finite values."""
    for name, value in metrics.items():
        if value is not None and math.isfinite(value):
            yield name, value, 0
    for name, curve in curves.items():
        for step, value in curve.items():
            if math.isfinite(value):
                yield name, value, step
