"""Commands that look at a finished experiment."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flowsheet.tracking.registered_names import list_references


@pytest.mark.server
def test_listings_report_and_clean_of_a_finished_run(
    finished: Path, call_flowsheet, tmp_path: Path, monkeypatch
):
    runs = json.loads(call_flowsheet(finished, "ls", "runs", "--json").stdout)
    assert runs[-1]["experiment"] == "demo"
    studies = json.loads(call_flowsheet(finished, "ls", "studies", "--json").stdout)
    assert {study["model"] for study in studies} >= {"lstm", "logistic_regression"}
    assert {type(study["trials"]) for study in studies} == {int}
    assert {type(study["best"]) for study in studies} == {float}
    registry = json.loads(call_flowsheet(finished, "ls", "registry", "--json").stdout)
    assert registry[0]["latest"] == 1
    out = tmp_path / "report.html"
    result = call_flowsheet(finished, "report", runs[-1]["run"], "--out", str(out))
    assert result.returncode == 0, result.stderr
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")
    listed = json.loads(call_flowsheet(finished, "clean", "--older-than", "0", "--json").stdout)
    needed = [folder for folder in listed if folder["kind"] == "extract"]
    assert needed[0]["needed_by"].startswith("demo-")
    monkeypatch.setenv("FLOWSHEET_HOME", str(finished))
    assert "demo-lstm/1" in list_references()
