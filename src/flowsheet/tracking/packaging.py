"""A model package as an MLflow model: a signature, an example, pinned requirements, no pickles."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from math import isfinite
from pathlib import Path
from typing import Any

from flowsheet import __version__
from flowsheet.prediction.input_rows import example_tables, to_rows
from flowsheet.state.json_files import read_json
from flowsheet.tracking.store import RetryingClient, connect

_AT_PREDICTION = (
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
    """Package a model package below a run; the URI of the package.

    A model package of the same training that the experiment has packaged before is taken as it is.
    ``metrics`` are shown with the package. Loading the package runs ``flowsheet.tracking.pyfunc``.
    """
    from mlflow.entities import LoggedModelOutput

    client = connect()
    run = client.get_run(run_id)
    model = _package(
        client, run, str(read_json(model_package / "package.json")["training_key"]), name
    )
    if str(model.status) != "READY":
        _upload(client, run, model, model_package, metrics or {})
    if model.model_id not in {output.model_id for output in run.outputs.model_outputs}:
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    return f"models:/{model.model_id}"


def list_requirements() -> list[str]:
    """What a prediction needs, in the versions that are installed.

    >>> list_requirements()[0].startswith("flowsheet==")
    True
    """
    return [f"flowsheet=={__version__}"] + [f"{name}=={version(name)}" for name in _AT_PREDICTION]


def _package(client: RetryingClient, run: Any, key: str, name: str) -> Any:
    """The package of that training, complete or begun; a new one when there is none."""
    wanted = f"tags.`flowsheet.training_key` = '{key}'"
    held = [
        m
        for m in client.search_logged_models([run.info.experiment_id], wanted)
        if str(m.status) != "FAILED"
    ]
    if held:
        return min(held, key=lambda model: (str(model.status) != "READY", model.creation_timestamp))
    return client.create_logged_model(
        run.info.experiment_id,
        name=name,
        source_run_id=run.info.run_id,
        tags={"flowsheet.training_key": key},
        params=run.data.params,
        model_type="flowsheet",
    )


def _upload(
    client: RetryingClient, run: Any, model: Any, model_package: Path, metrics: Mapping[str, float]
) -> None:
    from mlflow import pyfunc
    from mlflow.entities import Metric
    from mlflow.models import Model

    from flowsheet.tracking.pyfunc import build_signature

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
            pip_requirements=list_requirements(),
        )
        client.log_model_artifacts(model.model_id, str(folder))
    at = run.info.start_time
    shown = [
        Metric(name, float(v), at, 0, model_id=model.model_id)
        for name, v in metrics.items()
        if isfinite(v)
    ]
    client.log_batch(run.info.run_id, metrics=shown)
    client.finalize_logged_model(model.model_id, "READY")
