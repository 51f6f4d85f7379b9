"""MLflow's experiments, and the addresses of their pages.

MLflow's page keeps the columns of its table of runs in the browser, but for saved views: those are
tags of the experiment. Every experiment has the view ``Models``, which lists its models' runs with
the metrics that matter, the best one first.
"""

from __future__ import annotations

import json
from typing import Any

from flowsheet.config import ExperimentConfig, Target
from flowsheet.evaluation.metrics import get_metric
from flowsheet.tracking.store import (
    RetryingClient,
    artifact_root,
    ignore_already_exists,
    is_embedded,
    store_lock,
    tracking_uri,
)

LOCAL_PAGE = "http://127.0.0.1:5000"
"""Where ``flowsheet ui`` serves MLflow's pages, unless it is given another port."""

_KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Tag by which the page shows training runs and models, not traces of language models."""
_WORKFLOW = "workflowType=machine_learning"
_VIEW = "models"
_VIEW_TAG = f"mlflow.sharedViewState.{_VIEW}"


def ensure_experiment(client: RetryingClient, name: str) -> str:
    """Id of an MLflow experiment, which is created or restored if necessary."""
    with store_lock():
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            location = f"{artifact_root()}/{name}" if is_embedded() else None
            with ignore_already_exists():
                client.create_experiment(name, artifact_location=location, tags=_KIND)
            experiment = client.get_experiment_by_name(name)
        if experiment.lifecycle_stage == "deleted":
            client.restore_experiment(experiment.experiment_id)
        return str(experiment.experiment_id)


def save_models_view(client: RetryingClient, experiment_id: str, config: ExperimentConfig) -> None:
    """Save the view ``Models`` of an experiment, ordered by the metric that ranks the models."""
    experiment = client.get_experiment(experiment_id)
    view = {
        "name": "Models",
        "createdAt": experiment.creation_time,
        "state": json.dumps(_models_view(config)),
    }
    text = json.dumps(view)
    if experiment.tags.get(_VIEW_TAG) != text:
        client.set_experiment_tag(experiment_id, _VIEW_TAG, text)


def _models_view(config: ExperimentConfig) -> dict[str, Any]:
    metric = get_metric(config.evaluation.metric)
    ranked = [f"test.{metric.name}", f"test.new_onsets.{metric.name}"]
    if config.task.target is Target.state:
        ranked.reverse()
    others = ["test.auroc", "test.auprc", "test.calibration_slope", "test.brier"]
    metrics = list(dict.fromkeys([*ranked, *others, "training.seconds"]))
    return {
        "searchFilter": "tags.`flowsheet.level` = 'model'",
        "orderByKey": f"metrics.`{ranked[0]}`",
        "orderByAsc": metric.larger_is_better is False,
        "selectedColumns": [f"metrics.`{name}`" for name in metrics],
    }


def models_page(experiment_id: str) -> str:
    """Address of the table of an experiment's models."""
    return f"{_page()}/#/experiments/{experiment_id}/runs?{_WORKFLOW}&viewStateShareKey={_VIEW}"


def run_page(experiment_id: str, run_id: str) -> str:
    """Address of the page of a run."""
    return f"{_page()}/#/experiments/{experiment_id}/runs/{run_id}?{_WORKFLOW}"


def _page() -> str:
    uri = tracking_uri()
    return uri.rstrip("/") if uri.startswith("http") else LOCAL_PAGE
