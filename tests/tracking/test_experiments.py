"""The view in which MLflow's page of an experiment opens, and tables that it shows."""

from __future__ import annotations

import json

import pytest

from flowsheet.config import Target
from flowsheet.tracking.experiments import models_page, run_page
from flowsheet.tracking.runs import Tracker
from flowsheet.tracking.store import as_default, connect

VIEW = "mlflow.sharedViewState.models"


def test_the_view_lists_models_by_the_metric_that_ranks_them(store, config):
    experiment_id = Tracker.open().start_experiment_run(config, "key").experiment_id
    tags = connect().get_experiment(experiment_id).tags
    view = json.loads(tags[VIEW])
    state = json.loads(view["state"])
    assert view["name"] == "Models"
    assert state["searchFilter"] == "tags.`flowsheet.level` = 'model'"
    assert state["orderByKey"] == f"metrics.`test.new_onsets.{config.evaluation.metric}`"
    assert state["selectedColumns"][0] == state["orderByKey"]
    assert not state["orderByAsc"]
    assert tags["mlflow.experimentKind"] == "custom_model_development"


def test_models_whose_loss_is_smallest_come_first(store, config):
    task = config.task.model_copy(update={"target": Target.onset})
    evaluation = config.evaluation.model_copy(update={"metric": "brier"})
    changed = config.model_copy(update={"task": task, "evaluation": evaluation})
    experiment_id = Tracker.open().start_experiment_run(changed, "key").experiment_id
    state = json.loads(json.loads(connect().get_experiment(experiment_id).tags[VIEW])["state"])
    assert state["selectedColumns"][:2] == [
        "metrics.`test.brier`",
        "metrics.`test.new_onsets.brier`",
    ]
    assert state["orderByAsc"]


def test_the_filter_and_the_order_of_the_view_are_those_of_mlflows_search(store, config, model_run):
    experiment = connect().get_experiment_by_name(config.name)
    state = json.loads(json.loads(experiment.tags[VIEW])["state"])
    runs = connect().search_runs(
        [experiment.experiment_id], state["searchFilter"], order_by=[f"{state['orderByKey']} DESC"]
    )
    assert [run.info.run_id for run in runs] == [model_run]


@pytest.mark.parametrize(
    ("uri", "page"),
    [
        ("", "http://127.0.0.1:5000/#/experiments/7/runs"),
        (
            "https://ada:secret@mlflow.example:443/",
            "https://mlflow.example:443/#/experiments/7/runs",
        ),
    ],
)
def test_addresses_lead_to_the_configured_server_without_its_login(monkeypatch, uri, page):
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert models_page("7") == f"{page}?workflowType=machine_learning&viewStateShareKey=models"
    assert run_page("7", "r") == f"{page}/r?workflowType=machine_learning"


def test_a_table_that_is_recorded_twice_has_its_rows_once(store, model_run):
    for _ in range(2):
        Tracker.open().log_table(model_run, {"stay_id": [1, 2], "lstm": [0.1, 0.2]}, "a/b.json")
    client = connect()
    with as_default():
        experiment_id = client.get_run(model_run).info.experiment_id
        table = client.load_table(experiment_id, "a/b.json", run_ids=[model_run])
    assert table.to_dict("list") == {"stay_id": [1, 2], "lstm": [0.1, 0.2]}
