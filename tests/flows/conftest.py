"""A Prefect server for the tests of flows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prefect.testing.utilities import prefect_test_harness


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """A temporary server, which all tests share."""
    with prefect_test_harness(server_startup_timeout=180):
        yield
