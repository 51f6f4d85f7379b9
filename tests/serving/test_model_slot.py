from __future__ import annotations

import time

import pytest

from flowsheet.errors import CheckFailed, UsageError
from flowsheet.serving.model_slot import AliasPoller, ModelSlot
from flowsheet.tracking import model_registry
from flowsheet.tracking.model_registry import ModelVersion


class FakeRegistry:
    """A registry whose alias points at ``version``; None stands for a missing alias."""

    def __init__(self, packages) -> None:
        self.version: int | None = 1
        self._packages = packages

    def resolve(self, name, alias):
        if self.version is None:
            raise UsageError(f"{name} has no version with the alias {alias!r}")
        return ModelVersion(name, self.version, "run")

    def load(self, registered):
        if registered.version not in self._packages:
            raise CheckFailed("the model was trained by another release\nsecond line")
        return self._packages[registered.version]


@pytest.fixture
def registry(model_package, challenger_package, monkeypatch):
    fake = FakeRegistry({1: model_package, 2: challenger_package})
    monkeypatch.setattr(model_registry, "get_version_by_alias", fake.resolve)
    monkeypatch.setattr(model_registry, "load_package", fake.load)
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
