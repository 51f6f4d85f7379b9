"""Registered models load, predict and explain where Flowsheet has never been installed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from flowsheet.cohort.schema import TABLES, Tables
from flowsheet.models.base import MODELS, Context
from flowsheet.prediction.input_rows import to_rows
from flowsheet.prediction.model_package import ModelPackage
from flowsheet.tracking.model_registry import get_version, register, set_champion
from flowsheet.tracking.packaging import log_model
from flowsheet.tracking.runs import Tracker
from flowsheet.tracking.store import connect, tracking_uri
from flowsheet.windows.build import build_sequences, collect_vocabulary
from tests.model_packages import DRUGS, FEATURES, TASK, VARIABLES, fit_model_package, ward_tables
from tests.projects import write_project
from tests.tiny import experiment
from tests.tracking.bare_environment import find_closure, make_environment
from tests.tracking.test_packaging import await_ping, find_free_port, post, start_server

PUBLIC_NAMES = {
    *("alembic", "lightgbm", "mlflow-skinny", "numpy", "orjson", "pandas", "polars", "pydantic"),
    *("sqlalchemy", "torch"),
}
OWN_VARIABLES = (*VARIABLES, "procalcitonin")
KINDS = ("lstm", "gradient_boosting", "constant")

SCRIPT = """
import json, sys, importlib.util
from pathlib import Path
folder, names = Path(sys.argv[1]), json.loads(sys.argv[2])
assert importlib.util.find_spec("flowsheet") is None

import mlflow, pandas, polars
table = json.loads((folder / "rows.json").read_text())
rows = pandas.DataFrame(table["data"], columns=table["columns"])
tables = [polars.read_parquet(folder / f"{name}.parquet") for name in
          ("stays", "events", "treatments", "episodes")]
refused = {}
for changed in ("code.zip", "flowsheet_pyfunc.py"):
    try:
        mlflow.pyfunc.load_model(str(folder / f"changed {changed}"))
    except mlflow.exceptions.MlflowException as error:
        refused[changed] = str(error)
    assert not any(name.startswith("flowsheet.") for name in sys.modules)
for kind, name in names.items():
    model = mlflow.pyfunc.load_model(f"models:/{name}@champion")
    polars.from_dict({c: v.to_list() for c, v in model.predict(rows).items()}).write_parquet(
        folder / f"{kind}.risks.parquet")
    package = model.get_raw_model()
    from flowsheet.cohort.schema import Tables
    package.explain(Tables(*tables)).write_parquet(folder / f"{kind}.explanations.parquet") \
        if kind != "constant" else None
import flowsheet
result = {"refused": refused, "file": flowsheet.__file__, "version": flowsheet.__version__,
          "modules": sorted({name.partition(".")[0] for name in sys.modules})}
(folder / "result.json").write_text(json.dumps(result))
"""


@dataclass(frozen=True)
class Bare:
    """What the bare environment answered, and what is expected."""

    folder: Path
    python: Path
    environment: dict[str, str]
    packages: dict[str, ModelPackage]
    models: dict[str, Path]
    """{kind: folder of the MLflow model}."""
    tables: Tables


@pytest.fixture(scope="module")
def bare(shared_home, tmp_path_factory) -> Iterator[Bare]:
    folder = tmp_path_factory.mktemp("bare")
    tables = ward_tables(12)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOWSHEET_HOME", str(shared_home))
        patch.setenv("FLOWSHEET_PROJECT", str(write_project(folder / "study", "bare_study")))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        packages = {
            "lstm": fit_model_package(folder / "1", "lstm", tables, "0" * 64, epochs=1, hidden=4),
            "gradient_boosting": fit_model_package(
                folder / "2", "gradient_boosting", tables, "1" * 64, rounds=5
            ),
            "constant": fit_own_model(folder / "3", tables),
        }
        models = log_models(packages)
        for name in TABLES:
            getattr(tables, name).write_parquet(folder / f"{name}.parquet")
        to_rows(tables).to_json(folder / "rows.json", orient="split", double_precision=15)
        for name in ("code.zip", "flowsheet_pyfunc.py"):
            copy = folder / f"changed {name}"
            shutil.copytree(models["lstm"], copy)
            with next(copy.rglob(name)).open("ab") as file:
                file.write(b"#")
        python = make_environment(folder / "environment", read_requirements(models.values()))
        environment = environment_variables(python)
        run_script(python, folder, environment)
        yield Bare(folder, python, environment, packages, models, tables)


def fit_own_model(folder: Path, tables: Tables) -> ModelPackage:
    """A plug-in of the project, with a variable of the project."""
    vocabulary = collect_vocabulary(tables)
    sequences = build_sequences(tables, TASK, FEATURES, OWN_VARIABLES, DRUGS, vocabulary)
    model = MODELS.get("constant")(MODELS.get("constant").Params())
    model.fit(sequences, sequences, Context(seed=1))
    (folder / "saved").mkdir(parents=True)
    model.save(folder / "saved")
    return ModelPackage.write(
        folder / "model_package",
        kind="constant",
        model=folder / "saved",
        scaler=None,
        task=TASK,
        features=FEATURES,
        columns={"variables": OWN_VARIABLES, "drugs": DRUGS, "vocabulary": vocabulary},
        training_key="2" * 64,
    )


def log_models(packages: dict[str, ModelPackage]) -> dict[str, Path]:
    tracker = Tracker.open()
    parent = tracker.start_experiment_run(experiment("bare"), "key")
    folders = {}
    for kind, package in packages.items():
        key = package.training_key
        run = tracker.start_model_run(parent.run_id, kind, key, {})
        uri = log_model(run, package.folder)
        set_champion(get_version(f"bare-{kind}", register(f"bare-{kind}", run, uri, key)))
        location = connect().get_logged_model(uri.removeprefix("models:/")).artifact_location
        folders[kind] = Path(location.removeprefix("file://").replace("%20", " "))
    return folders


def read_requirements(models) -> list[str]:
    texts = [(model / "requirements.txt").read_text(encoding="utf-8") for model in models]
    return sorted({line for text in texts for line in text.split()})


def environment_variables(python: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
    path = f"{python.parent}:{os.environ['PATH']}"
    mlflow = {"MLFLOW_TRACKING_URI": tracking_uri(), "MLFLOW_DISABLE_TELEMETRY": "true"}
    return {**kept, **mlflow, "PATH": path}


def run_script(python: Path, folder: Path, environment: dict[str, str]) -> None:
    names = json.dumps({kind: f"bare-{kind}" for kind in KINDS})
    completed = subprocess.run(
        [python, "-c", SCRIPT, folder, names],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    assert completed.returncode == 0, completed.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_a_registered_model_predicts_the_same_without_flowsheet(bare, kind):
    risks = pl.read_parquet(bare.folder / f"{kind}.risks.parquet")
    expected = bare.packages[kind].predict(bare.tables)
    assert risks["risk"].to_list() == expected["risk"].to_list()
    assert risks["stay_id"].to_list() == expected["stay_id"].to_list()
    assert risks["time"].str.to_datetime(time_unit="us").to_list() == expected["time"].to_list()


@pytest.mark.parametrize("kind", ["lstm", "gradient_boosting"])
def test_it_explains_the_same(bare, kind):
    explanations = pl.read_parquet(bare.folder / f"{kind}.explanations.parquet")
    assert explanations.equals(bare.packages[kind].explain(bare.tables))


def test_the_code_is_that_of_the_package_and_of_the_release(bare):
    from flowsheet import __version__

    result = json.loads((bare.folder / "result.json").read_text(encoding="utf-8"))
    assert "code.zip" in result["file"]
    assert result["version"] == __version__
    imported = set(result["modules"])
    assert not imported & {"prefect", "optuna", "sklearn", "pandera", "pyarrow", "flask"}


def test_changed_code_is_refused_before_any_of_it_is_imported(bare):
    result = json.loads((bare.folder / "result.json").read_text(encoding="utf-8"))
    assert "changed: code.zip" in result["refused"]["code.zip"]
    assert "flowsheet_pyfunc.py" in result["refused"]["flowsheet_pyfunc.py"]


def test_requirements_are_public_names_of_what_the_model_needs(bare):
    names = {}
    for kind, model in bare.models.items():
        lines = read_requirements([model])
        assert all(re.fullmatch(r"[a-z-]+==[0-9.]+(post\d+)?", line) for line in lines), lines
        names[kind] = {line.partition("==")[0] for line in lines}
        assert names[kind] <= PUBLIC_NAMES
        assert not find_closure(lines).keys() & {"scikit-learn", "prefect", "optuna", "flowsheet"}
    assert names["lstm"] - names["constant"] == {"torch"}
    assert names["gradient_boosting"] - names["constant"] == {"lightgbm"}
    for name in ("conda.yaml", "python_env.yaml"):
        text = (bare.models["constant"] / name).read_text(encoding="utf-8")
        assert "flowsheet" not in text
        assert "bare_study" not in text


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.parametrize("kind", ["lstm", "gradient_boosting"])
def test_mlflow_serves_it(bare, kind, tmp_path):
    port, log = find_free_port(), tmp_path / "server.log"
    model = f"models:/bare-{kind}@champion"
    server = start_server(model, port, log, bare.python, bare.environment)
    try:
        await_ping(port, server, log)
        split = json.loads((bare.folder / "rows.json").read_text(encoding="utf-8"))
        split.pop("index")
        answer = post(port, {"dataframe_split": split})["predictions"]
        expected = bare.packages[kind].predict(bare.tables)["risk"].to_list()
        assert [row["risk"] for row in answer] == expected
    finally:
        if server.poll() is None:
            os.killpg(server.pid, 15)
        server.wait(timeout=30)
