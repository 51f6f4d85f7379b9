"""A promotion that asks a person: yes, no, and nobody there."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName
from prefect.testing.utilities import prefect_test_harness

import flows.promotion as module
from flowsheet.lifecycle.deployment.gates import GateResult
from flowsheet.tracking.decisions import Decision
from flowsheet.tracking.model_registry import ModelVersion

pytestmark = pytest.mark.server


@pytest.fixture(scope="module", autouse=True)
def server():
    with prefect_test_harness(server_startup_timeout=180):
        yield


@pytest.fixture
def decisions(monkeypatch):
    """What is decided of a challenger that passes every gate."""
    made = []

    def evaluate_candidate(name, version, config, *, service=None):
        return ModelVersion(name=name, version=2, run_id="0" * 32), (
            GateResult(name="better", passed=True, summary="by far"),
        )

    def promote(name, version, config, *, service, actor, reason):
        made.append(("promoted", version, actor, reason))
        decision = Decision.model_construct(name=name, version=version, action="promoted")
        gates = evaluate_candidate(name, version, config)[1]
        return module.PromotionResult.model_construct(decision=decision, gates=gates)

    def decline(candidate, gates, *, actor, reason):
        made.append(("declined", candidate.version, actor, reason))

    for each in (evaluate_candidate, promote, decline):
        monkeypatch.setattr(module, each.__name__, each)
    return made


def paused(name):
    """The id of the run, as soon as it waits."""
    deadline = time.monotonic() + 120
    wanted = FlowRunFilter(name=FlowRunFilterName(any_=[f"promotion-{name}"]))
    with get_client(sync_client=True) as client:
        while time.monotonic() < deadline:
            for run in client.read_flow_runs(flow_run_filter=wanted):
                if run.state.is_paused():
                    return run.id
            time.sleep(0.5)
    raise AssertionError("it never paused")


def answered(name, **said):
    """The state of a promotion that a person answers so."""
    with ThreadPoolExecutor(1) as background:
        asked = background.submit(module.promotion, name, approval=True, return_state=True)
        run = paused(name)
        with get_client(sync_client=True) as client:
            nameless = client.resume_flow_run(run, run_input={**said, "by": " "})
            assert nameless.status.value == "REJECT"
            client.resume_flow_run(run, run_input=said)
        return asked.result(timeout=120)


def test_yes_promotes_in_the_persons_name(decisions):
    state = answered("yes", approve=True, by="ada", reason="looks right")
    assert (state.name, state.message) == ("Promoted", "yes/2")
    assert decisions == [("promoted", 2, "ada", "looks right")]


def test_no_promotes_nothing_and_is_written_down(decisions):
    state = answered("no", approve=False, by="ada")
    assert (state.name, state.message) == ("Declined", "no/2 by ada")
    assert decisions == [("declined", 2, "ada", "declined: no reason given")]


def test_nobody_decides_nothing(decisions):
    state = module.promotion("nobody", approval=True, approval_hours=0.001, return_state=True)
    assert state.is_failed()
    assert "never resumed" in state.message
    assert decisions == []


def test_without_approval_nobody_is_asked(decisions):
    state = module.promotion("quick", reason="weekly", return_state=True)
    assert state.name == "Promoted"
    assert decisions == [("promoted", 2, "", "weekly")]
