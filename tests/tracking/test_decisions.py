"""The log of decisions notices every change; each test has its own store, which it damages."""

from __future__ import annotations

import shutil

import pytest

from flowsheet.errors import CheckFailed
from flowsheet.tracking.decisions import (
    EXPERIMENT,
    Decision,
    champion_history,
    load_decisions,
    record_decision,
)
from flowsheet.tracking.model_registry import ModelVersion
from flowsheet.tracking.store import connect


def decide(action: str, version: int, previous_version: int | None, name: str = "m") -> Decision:
    return record_decision(
        action,
        ModelVersion(name, version, "0" * 32),
        previous_version=previous_version,
        package_digest="d" * 64,
        actor="ada",
        reason="test",
    )


@pytest.fixture
def log(store, tmp_path, monkeypatch):
    """A log of three decisions: (MLflow client, runs)."""
    home = tmp_path / "damaged"
    connect()
    shutil.copytree(store, home)
    monkeypatch.setenv("FLOWSHEET_HOME", str(home))
    decide("promoted", 1, None)
    decide("promoted", 2, 1)
    decide("rolled back", 1, 2)
    client = connect()
    experiment = client.get_experiment_by_name(EXPERIMENT).experiment_id
    runs = client.search_runs([experiment], max_results=1000)
    return client, sorted(runs, key=lambda run: run.info.run_name)


def test_decisions_are_numbered_and_chained(log):
    decisions = load_decisions()
    assert [decision.number for decision in decisions] == [1, 2, 3]
    assert decisions[1].previous_sha256 == decisions[0].sha256
    assert decisions[2].version == 1


@pytest.mark.parametrize("position", [-2, -1])
def test_a_changed_decision_is_noticed(log, position):
    client, runs = log
    run = runs[position]
    text = run.data.tags["decision"].replace('"actor":"', '"actor":"not ')
    client.set_tag(run.info.run_id, "decision", text)
    with pytest.raises(CheckFailed, match="was changed or deleted"):
        load_decisions()


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_deleted_decision_is_noticed_until_it_is_restored(log, position):
    client, runs = log
    client.delete_run(runs[position].info.run_id)
    with pytest.raises(CheckFailed, match="was changed or deleted"):
        decide("promoted", 3, 1)
    client.restore_run(runs[position].info.run_id)
    assert len(load_decisions()) == 3


def test_a_deleted_log_is_noticed(log):
    client, _ = log
    client.delete_experiment(client.get_experiment_by_name(EXPERIMENT).experiment_id)
    with pytest.raises(CheckFailed, match="was changed or deleted"):
        load_decisions()


def test_a_request_that_a_restarted_server_received_twice_counts_once(log):
    client, runs = log
    before = load_decisions()
    client.create_run(runs[-1].info.experiment_id, tags=runs[-1].data.tags)
    assert load_decisions() == before


def test_an_invalid_decision_is_an_error(log):
    client, runs = log
    client.set_tag(runs[-1].info.run_id, "decision", "{}")
    with pytest.raises(CheckFailed, match="a decision cannot be read"):
        load_decisions()


def test_the_history_of_champions_is_one_of_a_registered_model(log):
    decide("promoted", 7, None, name="other")
    decide("refused", 3, 1)
    assert champion_history("m") == [1]
    decide("promoted", 3, 1)
    decide("promoted", 3, 1)  # repeated after an interruption
    assert champion_history("m") == [1, 3]
    decide("promoted", 5, 4)  # version 4 became the champion without a decision
    assert champion_history("m") == [1, 3, 4, 5]
    assert champion_history("other") == [7]
    assert champion_history("unknown") == []
