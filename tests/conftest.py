"""Fixtures and settings for all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from flowsheet.cohort.responses.base import RESPONSES
from flowsheet.cohort.sources.base import SOURCES
from flowsheet.evaluation.metrics.base import METRICS
from flowsheet.models.base import MODELS
from flowsheet.plugins import Registry, is_plugin
from tests.prefect_database import make_database

ROOT = Path(__file__).resolve().parents[1]

# A slow example on a busy machine is not a failure.
settings.register_profile("local", deadline=None)
# Hypothesis's own profile for CI, with a third of the examples for tests that set no number.
settings.register_profile("ci", settings.get_profile("ci"), max_examples=35)
settings.load_profile("ci" if os.environ.get("CI", "").lower() == "true" else "local")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run files with servers, which take the longest, first: then no worker ends long after the
    others (with ``--no-loadscope-reorder``, which keeps the order of the files).
    """
    with_servers = {item.path for item in items if item.get_closest_marker("server")}
    items.sort(key=lambda item: item.path not in with_servers)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of the open data sets; without it the test is skipped."""
    folder = Path(os.environ.get("FLOWSHEET_DATA") or ROOT.parent / "shared" / "data")
    if not (folder / "physionet2019").is_dir():
        pytest.skip(f"the open data sets are not in {folder}; set FLOWSHEET_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def prefect_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of an empty Prefect database; all workers share it."""
    return make_database(tmp_path_factory.getbasetemp().parent)


@pytest.fixture(autouse=True)
def flowsheet_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A separate state folder for each test."""
    home = tmp_path / "home"
    monkeypatch.setenv("FLOWSHEET_HOME", str(home))
    return home


@pytest.fixture(autouse=True)
def no_plug_in_outlives_its_test() -> Iterator[None]:
    """Forget the plug-ins that a test's project has registered: its modules are gone afterwards."""
    registries: list[Registry[Any]] = [METRICS, MODELS, RESPONSES, SOURCES]
    before = [dict(registry._classes) for registry in registries]
    yield
    for registry, classes in zip(registries, before, strict=True):
        for name, cls in list(registry._classes.items()):
            if is_plugin(cls) and name not in classes:
                del registry._classes[name]


@pytest.fixture(scope="session")
def s3_process():
    """An S3 server for the whole session."""
    pytest.importorskip("moto", reason="moto is not installed")
    from tests.s3_server import S3Server

    server = S3Server()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def s3(s3_process, monkeypatch: pytest.MonkeyPatch):
    """A running S3 server with an empty bucket, and the settings for it."""
    from tests.s3_server import use_server

    s3_process.reset()
    use_server(s3_process, monkeypatch)
    return s3_process
