from __future__ import annotations

import itertools
import os

import pytest

from tests.model_packages import model_package, tables
from tests.tiny import experiment

__all__ = ["config", "model_package", "shared_home", "store", "tables"]

_numbers = itertools.count()


@pytest.fixture(scope="session")
def shared_home(tmp_path_factory):
    return tmp_path_factory.mktemp("tracked home")


@pytest.fixture
def store(shared_home, monkeypatch):
    """One SQLite store for all tests here, since making one takes seconds; experiments differ by
    name.

    MLflow's own default is left alone.
    """
    monkeypatch.setenv("FLOWSHEET_HOME", str(shared_home))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    yield shared_home
    assert "MLFLOW_TRACKING_URI" not in os.environ


@pytest.fixture
def config():
    return experiment(f"experiment_{next(_numbers)}")
