"""A throw-away Postgres, as the image's would be."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

import tests.postgres


@pytest.fixture
def postgres() -> Iterator[dict[str, str]]:
    """The environment that reaches an empty server, whose superuser comes in by the socket alone."""
    with tests.postgres.postgres("--auth-local=trust", "--auth-host=scram-sha-256") as cluster:
        yield {**os.environ, "PGHOST": str(cluster.folder), "PGPORT": str(cluster.port)}
