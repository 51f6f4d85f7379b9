from __future__ import annotations

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
        ("metrics", "auroc"),
    ],
)
def test_a_list_names_what_can_be_chosen(what, name, capsys):
    main(["ls", what])
    assert name in capsys.readouterr().out


@pytest.mark.parametrize("what", ["runs", "registry", "decisions"])
def test_before_the_first_run_a_list_of_records_is_empty(what, capsys, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    main(["ls", what])
    assert capsys.readouterr().out == f"no {what} yet\n"


def test_an_unknown_list_is_answered_with_the_nearest_one(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["ls", "modles"])
    assert ended.value.code == 2
    assert 'did you mean "models"?' in capsys.readouterr().err
