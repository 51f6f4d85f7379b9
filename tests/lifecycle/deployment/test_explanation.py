"""A registered model's risk of a stay is explained from the extract, on the command line too."""

from __future__ import annotations

import json

import polars as pl
import pytest

from flowsheet.cli import main
from flowsheet.cohort.extract import Extract
from flowsheet.errors import UsageError
from flowsheet.lifecycle.deployment.explanation import explain_stay
from flowsheet.prediction.explanations.importance import IMPORTANCE
from tests.documented_keys import check_documented


@pytest.fixture
def reference(in_service):
    return f"{in_service.name}/{in_service.version}"


@pytest.fixture
def stay_id(in_service):
    return int(Extract.open(in_service.new_extract).scan("stays").collect()["stay_id"][0])


def test_the_last_step_is_explained_and_the_change_since_an_earlier_one(
    in_service, reference, stay_id
):
    explained = explain_stay(reference, in_service.new_extract, stay_id, since=2)
    prediction = explained.prediction
    total = prediction["baseline"] + explained.contributions["contribution"].sum()
    assert total == pytest.approx(prediction["log_odds"], abs=1e-6)
    before = explain_stay(reference, in_service.new_extract, stay_id, step=2).prediction
    change = prediction["log_odds"] - before["log_odds"]
    assert explained.rise["change"].sum() == pytest.approx(change, abs=1e-6)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"stay_id": -1}, "there is no stay -1"),
        ({"step": 9999}, "has no step 9999"),
        ({"step": 2, "since": 2}, "step 2 is not before step 2"),
    ],
)
def test_what_does_not_exist_is_a_usage_error(in_service, reference, stay_id, choices, message):
    with pytest.raises(UsageError, match=message):
        explain_stay(reference, in_service.new_extract, **{"stay_id": stay_id, **choices})


def test_the_command_prints_a_table_or_json(in_service, reference, stay_id, capsys):
    command = ["explain", reference, str(in_service.new_extract), "--stay", str(stay_id)]
    main([*command, "--since", "1", "--top", "3"])
    table = capsys.readouterr().out
    assert "baseline" in table
    assert "why the risk changed since step 1" in table
    main([*command, "--json", "--top", "2"])
    printed = json.loads(capsys.readouterr().out)
    assert printed["stay_id"] == stay_id
    assert len(printed["contributions"]) == 2
    assert printed["rise"] is None
    check_documented("explain", printed)


def test_an_experiment_keeps_how_much_each_concept_moves_a_model(in_service):
    file = in_service.trained.folder / "tables" / "global_importance.parquet"
    importance = pl.read_parquet(file)
    assert dict(importance.schema) == IMPORTANCE
    assert importance["share"].sum() == pytest.approx(1)
