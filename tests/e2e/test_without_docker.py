"""docs/deploy.md without Docker: its variables are those that are read there."""

from __future__ import annotations

import re

import prefect.settings

from tests.conftest import ROOT

PAGE = (ROOT / "docs/deploy.md").read_text(encoding="utf-8")
SECTION = PAGE[PAGE.index("### Without Docker") : PAGE.index("### How much a worker takes")]
SOURCES = "".join(
    file.read_text(encoding="utf-8")
    for folder in ("src", "flows")
    for file in (ROOT / folder).rglob("*.py")
)


def test_every_exported_variable_is_one_that_is_read():
    exported = set(re.findall(r"\b([A-Z][A-Z_]+)=", SECTION))
    assert {"PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "FLOWSHEET_HOME"} <= exported
    for name in exported:
        assert name in SOURCES or hasattr(prefect.settings, name), name
    assert not exported & {"PREFECT_AUTH", "FLOWSHEET_SHARED", "FLOWSHEET_RECORDS"}
