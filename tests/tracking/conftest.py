from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

from flowsheet.config import ExperimentConfig
from flowsheet.tracking.runs import Tracker
from tests.model_packages import model_package, tables
from tests.tiny import experiment

__all__ = ["config", "model_package", "model_run", "shared_home", "store", "tables"]

_numbers = itertools.count()


@pytest.fixture(scope="session")
def shared_home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("tracked home")


@pytest.fixture
def store(shared_home, monkeypatch) -> Path:
    """One SQLite store for all tests, since creating one takes seconds; experiments differ by name.

    Asserts that MLflow's own default store is not changed.
    """
    monkeypatch.setenv("FLOWSHEET_HOME", str(shared_home))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    yield shared_home
    assert "MLFLOW_TRACKING_URI" not in os.environ


@pytest.fixture
def config() -> ExperimentConfig:
    """An experiment with a name that no other test has."""
    return experiment(f"experiment_{next(_numbers)}")


@pytest.fixture
def model_run(store, config) -> str:
    """Id of a model's run in the experiment ``config``."""
    tracker = Tracker.open()
    parent = tracker.start_experiment_run(config, "key")
    return tracker.start_model_run(parent.run_id, "logistic", "k" * 64, {"l2": 1})
