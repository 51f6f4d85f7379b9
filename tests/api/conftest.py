"""A small ward, its windows and two fitted models, shared by the tests of the API."""

from __future__ import annotations

import pytest

import flowsheet as fs


@pytest.fixture(scope="session", autouse=True)
def api_home(tmp_path_factory):
    """One state folder for all tests of the API, which reuse each other's stages."""
    return tmp_path_factory.mktemp("api")


@pytest.fixture(autouse=True)
def _shared_home(api_home, monkeypatch):
    monkeypatch.setenv("FLOWSHEET_HOME", str(api_home / "home"))


@pytest.fixture
def ward():
    return fs.ingest("simulated_small", stays=60)


@pytest.fixture
def parts(ward):
    return fs.split(fs.windows(ward, "next_day", "vitals_only"), seed=2)


@pytest.fixture
def fitted(parts):
    return fs.model("logistic_regression", l2=0.01).fit(parts.train, parts.valid)
