"""Log a model package as an MLflow model, with signature, example and pinned requirements."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from math import isfinite
from pathlib import Path
from typing import Any

from flowsheet import __version__
from flowsheet.prediction.input_rows import example_tables, to_rows
from flowsheet.prediction.manifest import verify_manifest
from flowsheet.state.json_files import read_json
from flowsheet.tracking.store import RetryingClient, connect

PACKAGE_DIGEST = "flowsheet.package_digest"
"""Tag of an MLflow model and of its versions, and its metadata: sha256 of the manifest."""
_PREDICTION_LIBRARIES = (
    "lightgbm",
    "mlflow",
    "numpy",
    "polars",
    "pyarrow",
    "pydantic",
    "scikit-learn",
    "scipy",
    "torch",
)


def log_model(
    run_id: str,
    model_package: Path,
    name: str = "model",
    metrics: Mapping[str, float] | None = None,
) -> str:
    """Log a model package as an MLflow model of a run, and return the model's URI.

    If the experiment has logged a model of the same training before, that one is used. MLflow
    loads the model with ``flowsheet.tracking.pyfunc``.

    Args:
        run_id: the model's run.
        model_package: folder of the model package.
        name: name of the MLflow model.
        metrics: {name: value}, shown on the model's page; NaN is left out.
    """
    from mlflow.entities import LoggedModelOutput

    client = connect()
    run = client.get_run(run_id)
    training_key = str(read_json(model_package / "package.json")["training_key"])
    model = _ensure_logged_model(client, run, training_key, name)
    if not _is_ready(model):
        _upload(client, run, model, model_package)
        _log_metrics(client, run, model, metrics or {})
        client.finalize_logged_model(model.model_id, "READY")
    if model.model_id not in {output.model_id for output in run.outputs.model_outputs}:
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    return f"models:/{model.model_id}"


def list_requirements() -> list[str]:
    """The libraries that a prediction needs, pinned to the installed versions.

    >>> list_requirements()[0].startswith("flowsheet==")
    True
    """
    libraries = [f"{name}=={version(name)}" for name in _PREDICTION_LIBRARIES]
    return [f"flowsheet=={__version__}", *libraries]


def _plugin_requirement(model_package: Path) -> list[str]:
    """The installed package of a model that is a plug-in; none for Flowsheet's own models."""
    plugin = read_json(model_package / "package.json").get("plugin") or {}
    return [f"{plugin['distribution']}=={plugin['version']}"] if "distribution" in plugin else []


def _ensure_logged_model(client: RetryingClient, run: Any, training_key: str, name: str) -> Any:
    """The MLflow model of a training, complete or not; created when there is none."""
    query = f"tags.`flowsheet.training_key` = '{training_key}'"
    models = client.search_logged_models([run.info.experiment_id], query)
    usable = [model for model in models if str(model.status) != "FAILED"]
    if usable:
        return min(usable, key=lambda model: (not _is_ready(model), model.creation_timestamp))
    return client.create_logged_model(
        run.info.experiment_id,
        name=name,
        source_run_id=run.info.run_id,
        tags={"flowsheet.training_key": training_key},
        params=run.data.params,
        model_type="flowsheet",
    )


def _is_ready(model: Any) -> bool:
    return str(model.status) == "READY"


def _upload(client: RetryingClient, run: Any, model: Any, model_package: Path) -> None:
    from mlflow import pyfunc
    from mlflow.models import Model

    from flowsheet.tracking.pyfunc import build_signature

    package_digest = verify_manifest(model_package).digest
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "package"
        pyfunc.save_model(
            str(folder),
            loader_module="flowsheet.tracking.pyfunc",
            data_path=str(model_package),
            mlflow_model=Model(
                run_id=run.info.run_id, model_id=model.model_id, model_uuid=model.model_id
            ),
            signature=build_signature(),
            input_example=to_rows(example_tables()),
            pip_requirements=[*list_requirements(), *_plugin_requirement(model_package)],
            metadata={PACKAGE_DIGEST: package_digest},
        )
        client.log_model_artifacts(model.model_id, str(folder))
    client.set_logged_model_tags(model.model_id, {PACKAGE_DIGEST: package_digest})


def _log_metrics(
    client: RetryingClient, run: Any, model: Any, metrics: Mapping[str, float]
) -> None:
    from mlflow.entities import Metric

    entities = [
        Metric(name, float(value), run.info.start_time, 0, model_id=model.model_id)
        for name, value in metrics.items()
        if isfinite(value)
    ]
    client.log_batch(run.info.run_id, metrics=entities)
