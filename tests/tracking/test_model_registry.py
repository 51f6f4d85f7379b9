from __future__ import annotations

import numpy as np
import pytest

from flowsheet.errors import CheckFailed, UsageError
from flowsheet.tracking.model_registry import load, resolve
from flowsheet.tracking.packaging import log_model
from flowsheet.tracking.registration import register
from flowsheet.tracking.runs import Tracker
from flowsheet.tracking.store import connect


@pytest.fixture
def name(store, config, model_package):
    """A registered model whose version 1 is the champion."""
    tracker = Tracker.open()
    run = tracker.model_run(tracker.start(config, "key").run_id, "logistic", "k" * 64, {"l2": 1})
    made = f"{config.name}-logistic"
    version = register(made, run, log_model(run, model_package.folder), "k" * 64)
    connect().set_registered_model_alias(made, "champion", str(version))
    return made


def test_the_champion_is_the_model_package_that_was_registered(name, model_package, tables):
    found = resolve(name, "champion")
    assert (found.version, found.uri) == (1, f"models:/{name}/1")
    np.testing.assert_array_equal(
        load(found).predict(tables)["risk"], model_package.predict(tables)["risk"]
    )


def test_an_alias_that_moves_resolves_anew(name):
    client = connect()
    held = client.get_model_version(name, "1")
    version = register(name, held.run_id, held.source, "o" * 64)
    client.set_registered_model_alias(name, "champion", str(version))
    assert resolve(name, "champion").version == version == 2


def test_what_is_missing_is_said(name, store):
    with pytest.raises(UsageError, match="no registered model 'nobody'"):
        resolve("nobody", "champion")
    with pytest.raises(UsageError, match="its aliases: champion"):
        resolve(name, "challenger")


def test_nothing_registered_makes_no_store(flowsheet_home):
    with pytest.raises(UsageError, match="run an experiment first"):
        resolve("m", "champion")
    assert not (flowsheet_home / "mlflow" / "mlflow.db").exists()


def test_a_model_of_somebody_else_is_refused(name, tmp_path):
    from mlflow import pyfunc

    other = tmp_path / "other"
    pyfunc.save_model(str(other), loader_module="json", data_path=None, pip_requirements=[])
    client = connect()
    made = client.create_model_version(name, str(other))
    client.set_registered_model_alias(name, "odd", made.version)
    with pytest.raises(CheckFailed, match="none of flowsheet's"):
        load(resolve(name, "odd"))
