from __future__ import annotations

import numpy as np
import pytest

from flowsheet.errors import CheckFailed, UsageError
from flowsheet.tracking.model_registry import get_version_by_alias, load_package, register
from flowsheet.tracking.packaging import log_model
from flowsheet.tracking.runs import Tracker
from flowsheet.tracking.store import connect


@pytest.fixture
def name(store, config, model_package):
    """A registered model whose version 1 is the champion."""
    tracker = Tracker.open()
    run = tracker.start_model_run(
        tracker.start_experiment_run(config, "key").run_id, "logistic", "k" * 64, {"l2": 1}
    )
    made = f"{config.name}-logistic"
    version = register(made, run, log_model(run, model_package.folder), "k" * 64)
    connect().set_registered_model_alias(made, "champion", str(version))
    return made


def test_the_champion_is_the_model_package_that_was_registered(name, model_package, tables):
    found = get_version_by_alias(name, "champion")
    assert (found.version, found.uri) == (1, f"models:/{name}/1")
    np.testing.assert_array_equal(
        load_package(found).predict(tables)["risk"], model_package.predict(tables)["risk"]
    )


def test_an_alias_that_moves_resolves_anew(name):
    client = connect()
    held = client.get_model_version(name, "1")
    version = register(name, held.run_id, held.source, "o" * 64)
    client.set_registered_model_alias(name, "champion", str(version))
    assert get_version_by_alias(name, "champion").version == version == 2


def test_what_is_missing_is_said(name, store):
    with pytest.raises(UsageError, match="no registered model 'nobody'"):
        get_version_by_alias("nobody", "champion")
    with pytest.raises(UsageError, match="available aliases: champion"):
        get_version_by_alias(name, "challenger")


def test_nothing_registered_makes_no_store(flowsheet_home):
    with pytest.raises(UsageError, match="run an experiment first"):
        get_version_by_alias("m", "champion")
    assert not (flowsheet_home / "mlflow" / "mlflow.db").exists()


def test_a_model_of_somebody_else_is_refused(name, tmp_path):
    from mlflow import pyfunc

    other = tmp_path / "other"
    pyfunc.save_model(str(other), loader_module="json", data_path=None, pip_requirements=[])
    client = connect()
    made = client.create_model_version(name, str(other))
    client.set_registered_model_alias(name, "odd", made.version)
    with pytest.raises(CheckFailed, match="not packaged by Flowsheet"):
        load_package(get_version_by_alias(name, "odd"))
