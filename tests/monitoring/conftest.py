from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from flowsheet.config import MonitoringConfig

collect_ignore = ["wards.py"]


@pytest.fixture(scope="session")
def wards():
    """The helper module ``wards.py``."""
    spec = importlib.util.spec_from_file_location("flowsheet_test_wards", Path(__file__).with_name("wards.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def config() -> MonitoringConfig:
    return MonitoringConfig(name="standard")
