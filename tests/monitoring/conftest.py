from __future__ import annotations

import pytest

from flowsheet.config import MonitoringConfig


@pytest.fixture(scope="session")
def config() -> MonitoringConfig:
    return MonitoringConfig(name="standard")
