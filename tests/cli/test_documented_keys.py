"""docs/command-line.md names the keys that ``--json`` prints.

The keys of commands that need a finished experiment are checked where these are tested.
"""

from __future__ import annotations

import json
from dataclasses import fields

import pytest

from flowsheet.cli import main
from flowsheet.cli.listing import _LISTINGS
from flowsheet.lifecycle.deployment.monitoring import MonitoringResult
from flowsheet.lifecycle.deployment.promotion import PromotionResult
from flowsheet.lifecycle.experiment.record import RunSummary
from flowsheet.lifecycle.runtime.clean import OldFolder
from tests.documented_keys import check_documented, documented_lists


def test_results_of_runs_monitoring_and_promotions():
    check_documented("run", RunSummary.model_fields.keys() - {"markdown"})
    check_documented("monitor", MonitoringResult.model_fields.keys() - {"stage"})
    check_documented("promote", {"promoted", *PromotionResult.model_fields})
    check_documented("clean", [field.name for field in fields(OldFolder)])


def test_validation_and_schema(capsys, tmp_path):
    ward = tmp_path / "ward"
    main(["simulate", str(ward), "--stays", "3"])
    capsys.readouterr()
    main(["validate", str(ward), "--json"])
    check_documented("validate", json.loads(capsys.readouterr().out))
    main(["schema", "--json"])
    check_documented("schema", json.loads(capsys.readouterr().out)[0])


@pytest.mark.parametrize("what", list(_LISTINGS))
def test_lists(what, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    columns = _LISTINGS[what][1]().columns
    assert {column.replace(" ", "_") for column in columns} == documented_lists()[what]
