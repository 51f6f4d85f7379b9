from __future__ import annotations

import contextlib
import shutil
import time

import polars as pl
import pytest
from fastapi.testclient import TestClient

from flowsheet.errors import CheckFailed, UsageError
from flowsheet.prediction.manifest import write_manifest
from flowsheet.serving import load_trial
from flowsheet.serving.answer_files import read_answers
from flowsheet.serving.app import make_app
from flowsheet.serving.model_slot import AliasPoller, ModelSlot
from flowsheet.serving.service import Service
from flowsheet.serving.settings import ServeConfig
from flowsheet.tracking import model_registry, registered_packages
from flowsheet.tracking.model_registry import ModelVersion
from tests.model_packages import fit_model_package
from tests.request_bodies import encode_body, select_stays

JSON = {"content-type": "application/json"}


class FakeRegistry:
    """A registry whose alias points at ``version``; None stands for a missing alias."""

    def __init__(self, packages) -> None:
        self.version: int | None = 1
        self.packages = packages

    def resolve(self, name, alias):
        if self.version is None:
            raise UsageError(f"{name} has no version with the alias {alias!r}")
        return ModelVersion(name, self.version, "run")

    @contextlib.contextmanager
    def open(self, registered):
        if registered.version not in self.packages:
            raise CheckFailed("the model was trained by another release\nsecond line")
        yield self.packages[registered.version].folder


@pytest.fixture
def registry(model_package, challenger_package, monkeypatch):
    fake = FakeRegistry({1: model_package, 2: challenger_package})
    monkeypatch.setattr(model_registry, "get_version_by_alias", fake.resolve)
    monkeypatch.setattr(registered_packages, "open_package", fake.open)
    return fake


def test_the_version_follows_the_alias(registry, capfd):
    loads = []
    slot = ModelSlot("m", "champion", lambda alias, succeeded: loads.append((alias, succeeded)))
    slot.load()
    first = slot.current
    slot.refresh()
    assert slot.current is first
    registry.version = 2
    slot.refresh()
    assert (first.version, slot.current.version) == (1, 2)
    assert loads == [("champion", True)] * 2
    assert '"previous_version":1' in capfd.readouterr().err


@pytest.mark.parametrize("version", [None, 3])
def test_a_version_that_cannot_be_loaded_leaves_the_previous_one(registry, capfd, version):
    loads = []
    slot = ModelSlot("m", "champion", lambda alias, succeeded: loads.append(succeeded))
    slot.load()
    registry.version = version
    slot.refresh()
    slot.refresh()
    assert slot.current.version == 1
    assert slot.error
    assert "\n" not in slot.error
    assert loads == [True, False, False]
    assert capfd.readouterr().err.count("reload_failed") == 1
    registry.version = 1
    slot.refresh()
    assert slot.error is None


def test_a_model_with_risks_above_1_is_rejected(registry, model_package, monkeypatch):
    slot = ModelSlot("m", "champion")
    slot.load()
    predict = type(model_package).predict

    def predict_two(self, tables):
        return predict(self, tables).with_columns(risk=2.0)

    monkeypatch.setattr(type(model_package), "predict", predict_two)
    registry.version = 2
    slot.refresh()
    assert slot.current.version == 1
    assert "between 0 and 1" in slot.error


def test_a_file_that_crashes_its_reader_leaves_the_previous_version(registry, ward, tmp_path):
    """LightGBM ends the process on this byte: the package was registered like this."""
    package = fit_model_package(tmp_path, "gradient_boosting", ward, rounds=5)
    trees = next(package.folder.rglob("*.txt"))
    content = trees.read_bytes()
    position = content.index(b"Tree=1")
    trees.write_bytes(content[:position] + b"x" + content[position:])
    write_manifest(package.folder)
    registry.packages[2] = package
    slot = ModelSlot("m", "champion")
    slot.load()
    registry.version = 2
    slot.refresh()
    assert slot.current.version == 1
    assert "ended the process that tried it (SIGABRT)" in slot.error


def test_a_failed_trial_is_not_repeated_at_every_poll(registry, monkeypatch):
    trials = []

    def fail(folder, reference):
        trials.append(reference)
        raise CheckFailed("the model could not be loaded")

    slot = ModelSlot("m", "champion")
    slot.load()
    monkeypatch.setattr(load_trial, "try_package", fail)
    registry.version = 2
    slot.refresh()
    slot.refresh()
    assert (trials, slot.current.version) == (["m/2"], 1)
    monkeypatch.setattr("flowsheet.serving.model_slot.RETRY_SECONDS", 0.0)
    slot.refresh()
    assert trials == ["m/2", "m/2"]


def test_a_trial_reports_what_is_wrong_in_words(model_package, tmp_path):
    folder = shutil.copytree(model_package.folder, tmp_path / "package")
    next((folder / "model").iterdir()).write_bytes(b"x")
    with pytest.raises(CheckFailed, match="was changed after training: changed: model/"):
        load_trial.try_package(folder, "m/1")


def test_without_a_champion_there_is_no_server(registry):
    registry.version = None
    with pytest.raises(UsageError, match="no version with the alias"):
        ModelSlot("m", "champion").load()


def test_the_poller_refreshes_the_slot(registry):
    slot = ModelSlot("m", "champion")
    slot.load()
    poller = AliasPoller([slot], 0.02)
    poller.start()
    registry.version = 2
    deadline = time.monotonic() + 10
    while slot.current.version != 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    poller.stop()


def test_every_answer_during_promotions_is_that_of_the_version_it_names(
    registry, ward, tmp_path, monkeypatch
):
    """Two servers answer while the alias moves to and fro; each keeps its answers."""
    monkeypatch.setenv("FLOWSHEET_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(load_trial, "try_package", lambda folder, reference: None)
    stay = ward.stays["stay_id"][0]
    part = select_stays(ward, stay)
    body = encode_body(part)
    expected = {
        version: package.predict(part)["risk"].to_list()
        for version, package in registry.packages.items()
    }
    seen = []
    with contextlib.ExitStack() as servers:
        clients = []
        for i in range(2):
            config = ServeConfig(name="m", keep_answers=tmp_path / f"kept{i}", poll_seconds=0.01)
            service = Service(config)
            service.load()
            app = TestClient(make_app(service), base_url="http://localhost")
            clients.append(servers.enter_context(app))
        deadline = time.monotonic() + 20
        while len(set(seen[-40:])) < 2 or len(seen) < 120:
            assert time.monotonic() < deadline, "the servers do not follow the alias"
            registry.version = 1 + (len(seen) // 20) % 2
            for client in clients:
                answer = client.post("/predict", content=body, headers=JSON).json()
                version = answer["model"]["version"]
                assert answer["stays"][0]["risk"] == expected[version]
                seen.append(version)
    kept = pl.concat([read_answers(tmp_path / f"kept{i}") for i in range(2)])
    assert kept.height == len(seen) * len(expected[1])
    for (version,), rows in kept.partition_by("version", as_dict=True).items():
        for answer in rows.partition_by("answered_at"):
            assert answer["risk"].to_list() == expected[version]
