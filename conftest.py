"""Doctests of the package share one state folder, so that they reuse each other's stages."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def doctest_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state folder of all doctests of a session."""
    return tmp_path_factory.mktemp("doctests") / "home"


@pytest.fixture(autouse=True)
def _doctest_home(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if isinstance(request.node, pytest.DoctestItem):
        monkeypatch.setenv("FLOWSHEET_HOME", str(request.getfixturevalue("doctest_home")))
