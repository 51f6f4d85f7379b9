from __future__ import annotations

import pytest

from flowsheet.config import MonitoringConfig
from tests.monitoring import wards as helper


@pytest.fixture(scope="session")
def wards():
    """The helper module ``wards.py``."""
    return helper


@pytest.fixture
def config() -> MonitoringConfig:
    return MonitoringConfig(name="standard")
