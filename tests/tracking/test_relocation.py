"""A state folder that was moved or copied keeps its record, and leaves the original alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from flowsheet.errors import FlowsheetError
from flowsheet.tracking import model_registry, registered_packages
from flowsheet.tracking.packaging import log_model
from flowsheet.tracking.runs import Tracker
from flowsheet.tracking.store import connect, is_empty


@pytest.fixture
def registered(store, config, model_run, model_package) -> str:
    """``NAME/VERSION`` of a model in the store that all tests share."""
    name = f"{config.name}-logistic"
    uri = log_model(model_run, model_package.folder)
    return f"{name}/{model_registry.register(name, model_run, uri, 'k' * 64)}"


@pytest.fixture
def copy(store, registered, tmp_path, monkeypatch) -> Path:
    """A copy of the state folder, which is the state folder now."""
    folder = Path(shutil.copytree(store, tmp_path / "a copy # with 100%"))
    monkeypatch.setenv("FLOWSHEET_HOME", str(folder))
    return folder


def list_files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def test_a_copy_has_the_models_and_never_writes_into_the_original(
    copy, store, registered, config, tmp_path, capfd
):
    original = store / "mlflow" / "artifacts"
    before = list_files(original)
    away = original.rename(tmp_path / "away")  # the copy must not read from it either
    try:
        package = registered_packages.load_package(model_registry.resolve_reference(registered))
        assert package.kind == "logistic_regression"
        tracker = Tracker.open()
        run = tracker.start_experiment_run(config, "a second key")
        tracker.log_artifacts(run.run_id, package.folder.parent, "nothing")
        assert not original.exists()
    finally:
        away.rename(original)
    assert list_files(original) == before
    assert f"was made as {store}" in capfd.readouterr().err
    experiment = connect().get_experiment_by_name(config.name)
    assert Path(experiment.artifact_location.removeprefix("file://")).parent.name == "artifacts"
    assert "a%20copy%20%23%20with%20100%25" in experiment.artifact_location


def test_a_folder_under_another_name_is_no_move(store, registered, tmp_path, monkeypatch, capfd):
    link = tmp_path / "link"
    link.symlink_to(store)
    monkeypatch.setenv("FLOWSHEET_HOME", str(link))
    assert model_registry.resolve_reference(registered).reference == registered
    assert "was made as" not in capfd.readouterr().err


def test_a_lost_database_is_not_an_empty_one(copy):
    database = copy / "mlflow" / "mlflow.db"
    database.unlink()
    for damage in (lambda: None, database.touch):
        damage()
        with pytest.raises(FlowsheetError, match="missing or empty") as lost:
            is_empty()
        assert str(database) in lost.value.where
        with pytest.raises(FlowsheetError, match="missing or empty"):
            connect()


@pytest.mark.parametrize("kept", [0.5, 0.97])
def test_a_database_that_was_cut_short_is_named(copy, kept):
    database = copy / "mlflow" / "mlflow.db"
    content = database.read_bytes()
    database.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(FlowsheetError, match="database is damaged") as damaged:
        connect()
    assert damaged.value.where == str(database)
    assert "backup" in damaged.value.todo


def test_a_database_that_is_overwritten_while_it_is_used_is_named(copy):
    client = connect()
    database = copy / "mlflow" / "mlflow.db"
    content = database.read_bytes()
    database.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    with pytest.raises(FlowsheetError, match="database is damaged"):
        client.search_registered_models()
