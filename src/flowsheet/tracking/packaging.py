"""Log a model package as an MLflow model, with signature, example and pinned requirements."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from math import isfinite
from pathlib import Path
from typing import Any

from flowsheet.prediction.input_rows import example_tables, to_rows
from flowsheet.prediction.manifest import verify_manifest
from flowsheet.state.hashing import file_digest
from flowsheet.state.json_files import read_json
from flowsheet.tracking import pyfunc
from flowsheet.tracking.datasets import DataSet
from flowsheet.tracking.pyfunc import LOADER_DIGEST, PACKAGE_DIGEST, RELEASE
from flowsheet.tracking.store import RetryingClient, connect

_MLFLOW = ("alembic", "mlflow-skinny", "pandas", "sqlalchemy")
"""What MLflow needs to load and serve a model, also from a registry in a database.

The whole of ``mlflow`` would bring scikit-learn, matplotlib and a web application.
"""

_OF_WORKING_FOLDER = ("uv.lock", "pyproject.toml", ".python-version")
"""Files of a project that MLflow copies from the working folder, and installs instead of ours."""


def log_model(
    run_id: str,
    model_package: Path,
    name: str = "model",
    *,
    metrics: Mapping[str, float] | None = None,
    data: DataSet | None = None,
    params: Mapping[str, Any] | None = None,
) -> str:
    """Log a model package as an MLflow model of a run, and return the model's URI.

    If the experiment has logged a model of the same training before, that one is used. MLflow
    loads the model with its copy of ``flowsheet.tracking.pyfunc``.

    Args:
        run_id: the model's run.
        model_package: folder of the model package.
        name: name of the MLflow model.
        metrics: {name: value}, shown on the model's page; NaN is left out.
        data: the data set that the metrics were computed on; it becomes an input of the run.
        params: {name: value}, shown on the model's page; by default the run's.
    """
    from mlflow.entities import LoggedModelOutput

    client = connect()
    run = client.get_run(run_id)
    training_key = str(read_json(model_package / "package.json")["training_key"])
    model = _ensure_logged_model(client, run, training_key, name, params or run.data.params)
    if not _is_ready(model):
        _upload(client, run, model, model_package)
        _log_metrics(client, run, model, metrics or {}, data)
        client.finalize_logged_model(model.model_id, "READY")
    if model.model_id not in {output.model_id for output in run.outputs.model_outputs}:
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    return f"models:/{model.model_id}"


def list_requirements(model_package: Path) -> list[str]:
    """What has to be installed to load and serve a model package: libraries with their versions.

    All names are those of well-known libraries on the public index, and never Flowsheet's own or a
    plug-in's, whose code is in the package.
    """
    of_model = read_json(model_package / "package.json")["requirements"]
    of_mlflow = [f"{name}=={version(name)}" for name in _MLFLOW]
    return sorted({*of_mlflow, *of_model})


def _ensure_logged_model(
    client: RetryingClient, run: Any, training_key: str, name: str, params: Mapping[str, Any]
) -> Any:
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
        params={key: str(value) for key, value in params.items()},
        model_type="flowsheet",
    )


def _is_ready(model: Any) -> bool:
    return str(model.status) == "READY"


def _upload(client: RetryingClient, run: Any, model: Any, model_package: Path) -> None:
    from mlflow.models import Model

    package_digest = verify_manifest(model_package).digest
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "package"
        loader = Path(temporary) / f"{pyfunc.LOADER}.py"
        shutil.copyfile(pyfunc.__file__, loader)
        metadata = {PACKAGE_DIGEST: package_digest, LOADER_DIGEST: file_digest(loader)}
        mlflow_model = Model(
            run_id=run.info.run_id,
            model_id=model.model_id,
            model_uuid=model.model_id,
            metadata=metadata,
        )
        _save_model(folder, model_package, loader, mlflow_model)
        client.log_model_artifacts(model.model_id, str(folder))
    release = str(read_json(model_package / "package.json")["flowsheet"])
    tags = {PACKAGE_DIGEST: package_digest, RELEASE: release}
    client.set_logged_model_tags(model.model_id, tags)


def _save_model(folder: Path, model_package: Path, loader: Path, mlflow_model: Any) -> None:
    from mlflow.pyfunc import save_model

    from flowsheet.tracking.signature import build_signature

    save_model(
        str(folder),
        loader_module=pyfunc.LOADER,
        data_path=str(model_package),
        code_paths=[str(loader)],
        mlflow_model=mlflow_model,
        signature=build_signature(),
        input_example=to_rows(example_tables()),
        pip_requirements=list_requirements(model_package),
    )
    for name in _OF_WORKING_FOLDER:
        (folder / name).unlink(missing_ok=True)


def _log_metrics(
    client: RetryingClient,
    run: Any,
    model: Any,
    metrics: Mapping[str, float],
    data: DataSet | None,
) -> None:
    """Log metrics of a model, linked to the data set that they were computed on."""
    from mlflow.entities import Metric

    link: dict[str, str] = {}
    if data:
        data_input = data.to_mlflow()
        client.log_inputs(run.info.run_id, [data_input])
        dataset = data_input.dataset
        link = {"dataset_name": dataset.name, "dataset_digest": dataset.digest}
    entities = [
        Metric(name, float(value), run.info.start_time, 0, model_id=model.model_id, **link)
        for name, value in metrics.items()
        if isfinite(value)
    ]
    client.log_batch(run.info.run_id, metrics=entities)
