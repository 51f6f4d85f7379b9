from __future__ import annotations

import time

import pytest

from flowsheet.errors import CheckFailed, UsageError
from flowsheet.serving.model_slot import Holder, Watcher
from flowsheet.tracking import model_registry
from flowsheet.tracking.model_registry import ModelVersion


@pytest.fixture
def registry(model_package, rival, monkeypatch):
    """A registry in which the alias stands for ``registry["version"]``; its model packages are made up."""
    held = {"version": 1, "model_packages": {1: model_package, 2: rival}}

    def resolve(name, alias):
        if held["version"] is None:
            raise UsageError(f"{name} has no version with the alias {alias!r}")
        return ModelVersion(name, held["version"], "run")

    def load(registered):
        made = held["model_packages"].get(registered.version)
        if made is None:
            raise CheckFailed("the model was trained by another release\nsecond line")
        return made

    monkeypatch.setattr(model_registry, "get_version_by_alias", resolve)
    monkeypatch.setattr(model_registry, "load_package", load)
    return held


def test_the_version_follows_the_alias(registry, capfd):
    told = []
    holder = Holder("m", "champion", lambda alias, well: told.append((alias, well)))
    holder.load()
    first = holder.current
    holder.refresh()
    assert holder.current is first
    registry["version"] = 2
    holder.refresh()
    assert (first.version, holder.current.version) == (1, 2)
    assert told == [("champion", True)] * 2
    assert '"before":1' in capfd.readouterr().err


@pytest.mark.parametrize("broken", [None, 3])
def test_a_version_that_does_not_load_leaves_the_former_one(registry, capfd, broken):
    told = []
    holder = Holder("m", "champion", lambda alias, well: told.append(well))
    holder.load()
    registry["version"] = broken
    holder.refresh()
    holder.refresh()
    assert holder.current.version == 1
    assert holder.error
    assert "\n" not in holder.error
    assert told == [True, False, False]
    assert capfd.readouterr().err.count("reload_failed") == 1
    registry["version"] = 1
    holder.refresh()
    assert holder.error is None


def test_a_model_that_answers_nonsense_is_not_taken_in(registry, model_package, monkeypatch):
    holder = Holder("m", "champion")
    holder.load()
    predict = type(model_package).predict
    monkeypatch.setattr(
        type(model_package),
        "predict",
        lambda self, tables: predict(self, tables).with_columns(risk=2.0),
    )
    registry["version"] = 2
    holder.refresh()
    assert holder.current.version == 1
    assert "between 0 and 1" in holder.error


def test_without_a_champion_there_is_no_server(registry):
    registry["version"] = None
    with pytest.raises(UsageError, match="no version with the alias"):
        Holder("m", "champion").load()


def test_the_watcher_looks_again_and_again(registry):
    holder = Holder("m", "champion")
    holder.load()
    watcher = Watcher([holder], 0.02)
    watcher.start()
    registry["version"] = 2
    deadline = time.monotonic() + 10
    while holder.current.version != 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    watcher.stop()
