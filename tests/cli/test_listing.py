from __future__ import annotations

import json

import pytest

from flowsheet.cli import main


@pytest.mark.parametrize(
    ("what", "name"),
    [
        ("experiments", "demo"),
        ("cohorts", "simulated"),
        ("promotions", "standard"),
        ("models", "gradient_boosting"),
        ("sources", "physionet2019"),
        ("databases", "clif"),
        ("metrics", "auroc"),
        ("variables", "lactate"),
        ("drugs", "norepinephrine"),
    ],
)
def test_a_list_names_what_can_be_chosen(what, name, capsys):
    main(["ls", what])
    assert name in capsys.readouterr().out


@pytest.mark.parametrize("what", ["runs", "registry", "decisions", "studies"])
def test_before_the_first_run_a_list_of_records_is_empty(what, capsys, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    main(["ls", what])
    assert capsys.readouterr().out == f"no {what} yet\n"


def test_without_a_word_all_lists_are_listed(capsys):
    main(["ls", "--json"])
    listed = {row["what"] for row in json.loads(capsys.readouterr().out)}
    assert {"experiments", "variables", "drugs", "studies", "runs"} <= listed


def test_json_rows_have_the_columns_as_keys(capsys):
    main(["ls", "drugs", "--json"])
    first = json.loads(capsys.readouterr().out)[0]
    assert first["name"] == "norepinephrine"
    assert first["unit_of_an_infusion"] == "mcg/kg/h"


def test_numbers_are_numbers(capsys):
    main(["ls", "variables", "--json"])
    variables = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert (variables["gcs"]["low"], variables["gcs"]["high"]) == (3, 15)


def test_an_unknown_list_is_answered_with_the_nearest_one(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["ls", "modles"])
    assert ended.value.code == 2
    assert 'did you mean "models"?' in capsys.readouterr().err
