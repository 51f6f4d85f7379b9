from __future__ import annotations

import os
import shutil
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest

from flowsheet.errors import CheckFailed, UsageError
from flowsheet.prediction.manifest import write_manifest
from flowsheet.tracking import model_registry, registered_packages
from flowsheet.tracking.packaging import log_model
from flowsheet.tracking.store import as_default, connect


@pytest.fixture
def model_uri(model_run, model_package) -> str:
    return log_model(model_run, model_package.folder)


@pytest.fixture
def name(config) -> str:
    return f"{config.name}-logistic"


@pytest.fixture
def champion(name, model_run, model_uri) -> model_registry.ModelVersion:
    """Version 1 of the registered model ``name``, which is its champion."""
    version = model_registry.register(name, model_run, model_uri, "k" * 64)
    model_registry.set_alias(name, "champion", version)
    return model_registry.get_version(name, version)


def register_second(champion: model_registry.ModelVersion) -> int:
    """Register the champion's model as another training."""
    original = connect().get_model_version(champion.name, str(champion.version))
    return model_registry.register(champion.name, original.run_id, original.source, "o" * 64)


def test_the_champion_is_the_registered_model_package(champion, model_package, tables):
    found = model_registry.get_version_by_alias(champion.name, "champion")
    assert found == champion
    assert found.uri == f"models:/{champion.name}/1"
    loaded = registered_packages.load_package(found)
    np.testing.assert_array_equal(
        loaded.predict(tables)["risk"], model_package.predict(tables)["risk"]
    )
    info = registered_packages.read_package_info(found)
    assert info["training_key"] == model_package.training_key
    assert registered_packages.has_current_signature(found)


@pytest.mark.parametrize("reference", ["{}", "{}@champion", "{}/1", "models:/{}/1"])
def test_references_to_a_version(champion, reference):
    assert model_registry.resolve_reference(reference.format(champion.name)) == champion


def test_an_alias_that_moves_is_followed(champion):
    version = register_second(champion)
    model_registry.set_alias(champion.name, "champion", version)
    found = model_registry.get_version_by_alias(champion.name, "champion")
    assert found.version == version == 2


def test_the_champion_is_not_the_challenger(champion):
    name, version = champion.name, register_second(champion)
    model_registry.propose_challenger(name, champion.version)
    assert model_registry.get_aliases(name) == {"champion": 1}
    model_registry.propose_challenger(name, version)
    assert model_registry.get_aliases(name) == {"champion": 1, "challenger": 2}
    model_registry.set_champion(model_registry.get_version(name, version))
    assert model_registry.get_aliases(name) == {"champion": 2}


def test_a_version_of_another_configuration_does_not_become_the_challenger(champion):
    version = register_second(champion)
    connect().set_model_version_tag(
        champion.name, str(version), model_registry.CONFIGURATION, "a quick test"
    )
    reason = model_registry.propose_challenger(champion.name, version)
    assert reason
    assert "another configuration" in reason
    assert model_registry.get_aliases(champion.name) == {"champion": 1}


def test_without_a_champion_there_is_no_challenger(name, model_run, model_uri):
    version = model_registry.register(name, model_run, model_uri, "k" * 64)
    model_registry.propose_challenger(name, version)
    assert model_registry.get_aliases(name) == {}
    assert model_registry.find_version_by_alias(name, "champion") is None


def test_unknown_models_aliases_and_versions_are_usage_errors(champion):
    with pytest.raises(UsageError, match="no registered model 'unknown'"):
        model_registry.get_version_by_alias("unknown", "champion")
    with pytest.raises(UsageError, match="available aliases: champion"):
        model_registry.get_version_by_alias(champion.name, "challenger")
    with pytest.raises(UsageError, match="available versions: 1"):
        model_registry.resolve_reference(f"{champion.name}/7")
    with pytest.raises(UsageError, match="is not a model version"):
        model_registry.resolve_reference(f"{champion.name}/latest")


def test_reading_an_empty_registry_creates_no_store(flowsheet_home):
    with pytest.raises(UsageError, match="run an experiment first"):
        model_registry.get_version_by_alias("m", "champion")
    assert model_registry.list_models()[1] == []
    assert not (flowsheet_home / "mlflow" / "mlflow.db").exists()


def test_a_model_that_was_not_packaged_by_flowsheet_is_refused(champion, tmp_path):
    from mlflow import pyfunc

    folder = tmp_path / "other"
    pyfunc.save_model(str(folder), loader_module="json", data_path=None, pip_requirements=[])
    version = connect().create_model_version(champion.name, str(folder)).version
    other = model_registry.get_version(champion.name, int(version))
    with pytest.raises(CheckFailed, match="not packaged by Flowsheet"):
        registered_packages.load_package(other)


def test_a_training_is_registered_once(name, model_run, model_uri, model_package):
    register = model_registry.register
    key = "k" * 64
    assert register(name, model_run, model_uri, key, description="first") == 1
    tags = {"auroc": "0.7"}
    assert register(name, model_run, model_uri, key, description="better", tags=tags) == 1
    assert register(name, model_run, model_uri, "other training") == 2
    versions = connect().search_model_versions(f"name = '{name}'")
    assert len(versions) == 2
    first = next(version for version in versions if int(version.version) == 1)
    assert first.description == "better"
    assert first.tags.pop("flowsheet.package_digest") == model_package.digest
    assert first.tags.pop("flowsheet.release") == model_package.version
    assert first.tags == {"flowsheet.training_key": key, "auroc": "0.7"}
    assert (first.run_id, first.status) == (model_run, "READY")


def test_registered_models_are_listed_with_their_latest_version(champion):
    register_second(champion)
    header, rows = model_registry.list_models()
    row = next(dict(zip(header, row, strict=True)) for row in rows if row[0] == champion.name)
    assert (row["versions"], row["latest"], row["aliases"]) == (2, 2, {"champion": 1})


@pytest.mark.parametrize("method", ["create_registered_model", "create_model_version"])
def test_a_repeated_request_leaves_one_version(name, model_run, model_uri, monkeypatch, method):
    """MLflow's client repeats a request if a server disappears; the first may have had effect."""
    client = connect()._client
    create = getattr(client, method)

    def create_twice(*args, **kwargs):
        create(*args, **kwargs)
        return create(*args, **kwargs)

    monkeypatch.setattr(client, method, create_twice)
    assert model_registry.register(name, model_run, model_uri, "k" * 64) == 1
    versions = connect().search_model_versions(f"name = '{name}'")
    assert [version.version for version in versions] == [1]
    assert model_registry.register(name, model_run, model_uri, "k" * 64) == 1


def test_a_copied_version_knows_its_source(champion):
    copy = model_registry.copy_version(champion, f"{champion.name}-service")
    assert (copy.name, copy.version) == (f"{champion.name}-service", 1)
    assert copy.run_id == champion.run_id
    assert model_registry.get_package_digest(copy) == model_registry.get_package_digest(champion)
    assert model_registry.get_source_version(copy) == (champion.name, 1)
    assert model_registry.get_source_version(champion) == (champion.name, 1)
    assert model_registry.copy_version(champion, copy.name) == copy


def test_an_artifact_is_linked_once(champion):
    for _ in range(2):
        model_registry.link_artifact(champion, "Model card", "card/MODEL_CARD.md")
    description = connect().get_model_version(champion.name, "1").description
    assert description.count("[Model card](#/experiments/") == 1


def artifact_folder(model_uri: str) -> Path:
    location = connect().get_logged_model(model_uri.removeprefix("models:/")).artifact_location
    return Path(unquote(location.removeprefix("file://")))


def load_everywhere(version: model_registry.ModelVersion) -> list[str]:
    """What each way to load the version says."""
    from mlflow import pyfunc

    messages = []
    with as_default():
        for load in (
            lambda: registered_packages.load_package(version),
            lambda: pyfunc.load_model(version.uri),
        ):
            with pytest.raises(CheckFailed) as refused:
                load()
            messages.append(refused.value.what)
    return messages


def test_a_package_that_was_changed_in_the_artifact_store_is_never_loaded(champion, model_uri):
    scaler = next(artifact_folder(model_uri).rglob("scaler.json"))
    content = scaler.read_text(encoding="utf-8")
    scaler.unlink()
    for message in load_everywhere(champion):
        assert "missing: scaler.json" in message
    scaler.write_text(content.replace("1", "2"), encoding="utf-8")
    for message in load_everywhere(champion):
        assert "changed: scaler.json" in message
    write_manifest(scaler.parent)
    for message in load_everywhere(champion):
        assert "not the one that was registered" in message


@pytest.mark.parametrize("absolute", [False, True])
def test_the_path_of_a_package_stays_in_the_mlflow_model(
    champion, model_uri, model_package, absolute
):
    mlmodel = artifact_folder(model_uri) / "MLmodel"
    path = str(model_package.folder)
    if not absolute:
        path = os.path.relpath(path, mlmodel.parent)
    mlmodel.write_text(
        mlmodel.read_text(encoding="utf-8").replace("data/model_package", path), encoding="utf-8"
    )
    by_registry, by_mlflow = load_everywhere(champion)
    assert "no folder of the MLflow model" in by_registry
    assert "leads out of the MLflow model" in by_mlflow


def test_damaged_and_lost_artifacts_are_named(champion, model_uri):
    mlmodel = artifact_folder(model_uri) / "MLmodel"
    mlmodel.write_text("flavors: [", encoding="utf-8")
    with pytest.raises(CheckFailed, match="MLmodel cannot be read"):
        registered_packages.load_package(champion)
    shutil.rmtree(mlmodel.parent)
    with pytest.raises(CheckFailed, match="not in the artifact store"):
        registered_packages.load_package(champion)


def test_a_version_without_a_digest_is_not_loaded(champion):
    connect().delete_model_version_tag(champion.name, "1", "flowsheet.package_digest")
    with pytest.raises(CheckFailed, match="cannot be verified"):
        registered_packages.load_package(champion)
