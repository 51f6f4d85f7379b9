"""The files at the repository's root: checks of a change and what they call."""

from __future__ import annotations

import re

from tests.conftest import ROOT


def _read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def test_the_checks_of_a_change_are_the_readmes_test_command():
    lines = _read(".ci/run").splitlines()
    commands = [line for line in lines if line and not line.startswith(("#", "set ", "cd "))]
    assert commands == ["make test"]
    assert "make test" in _read("README.md")


def test_the_workflow_makes_the_bill_of_materials():
    assert "run: make sbom" in _read(".github/workflows/tests.yml")
    assert re.search(r"cyclonedx-py requirements constraints\.txt", _read("Makefile"))
