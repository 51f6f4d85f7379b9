"""A temporary Postgres, configured like the one of the image."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

import tests.postgres


@pytest.fixture
def postgres() -> Iterator[dict[str, str]]:
    """Environment for an empty server: the superuser uses the socket, all others a password."""
    with tests.postgres.postgres("--auth-local=trust", "--auth-host=scram-sha-256") as cluster:
        yield {**os.environ, "PGHOST": str(cluster.folder), "PGPORT": str(cluster.port)}
