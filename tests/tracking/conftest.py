from __future__ import annotations

import importlib.util
import itertools
import os
from pathlib import Path

import pytest

from flowsheet.config import (
    CohortConfig,
    ComputeConfig,
    EvaluationConfig,
    ExperimentConfig,
    FeaturesConfig,
    ModelConfig,
    TaskConfig,
    TuningConfig,
)

_numbers = itertools.count()


@pytest.fixture(scope="session")
def shared_home(tmp_path_factory):
    return tmp_path_factory.mktemp("tracked home")


@pytest.fixture
def store(shared_home, monkeypatch):
    """One SQLite store for all tests here, since making one takes seconds; experiments differ by name.

    MLflow's own default is left alone.
    """
    monkeypatch.setenv("FLOWSHEET_HOME", str(shared_home))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    yield shared_home
    assert "MLFLOW_TRACKING_URI" not in os.environ


@pytest.fixture
def config():
    return ExperimentConfig(
        name=f"experiment_{next(_numbers)}",
        description="who is septic tomorrow",
        seed=3,
        cohort=CohortConfig(name="ward", source="simulated", options={"stays": 10}),
        task=TaskConfig(name="next_day"),
        features=FeaturesConfig(name="plain", aggregations=("last", "max")),
        models={"logistic": ModelConfig(kind="logistic_regression")},
        tuning=TuningConfig(name="quick"),
        evaluation=EvaluationConfig(name="holdout"),
        compute=ComputeConfig(name="small"),
    )


collect_ignore = ["bundles.py"]


@pytest.fixture(scope="session")
def bundles():
    """The helper module ``bundles.py``."""
    spec = importlib.util.spec_from_file_location("flowsheet_test_bundles", Path(__file__).with_name("bundles.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tables(bundles):
    return bundles.ward()


@pytest.fixture(scope="session")
def bundle(bundles, tables, tmp_path_factory):
    return bundles.make(tmp_path_factory.mktemp("bundle"), "logistic_regression", tables)
