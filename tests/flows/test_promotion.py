"""A promotion that asks a person: the answer is yes, no, or missing."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName

import flows.promotion
from flowsheet.lifecycle.deployment.gates import GateResult
from flowsheet.tracking.decisions import Decision
from flowsheet.tracking.model_registry import ModelVersion

pytestmark = [pytest.mark.server, pytest.mark.usefixtures("prefect_server")]


@pytest.fixture
def decisions(monkeypatch):
    """The decisions about a challenger that passes every gate."""
    recorded = []

    def evaluate_candidate(name, version, config, *, service=None):
        candidate = ModelVersion(name=name, version=2, run_id="0" * 32)
        return candidate, (GateResult(name="better", passed=True, summary="by far"),)

    def promote(name, version, config, *, service, actor, is_attested, reason):
        assert is_attested == bool(actor)
        recorded.append(("promoted", version, actor, reason))
        decision = Decision.model_construct(name=name, version=version, action="promoted")
        gates = evaluate_candidate(name, version, config)[1]
        return flows.promotion.PromotionResult.model_construct(decision=decision, gates=gates)

    def decline(candidate, gates, *, actor, reason):
        recorded.append(("declined", candidate.version, actor, reason))

    for fake in (evaluate_candidate, promote, decline):
        monkeypatch.setattr(flows.promotion, fake.__name__, fake)
    return recorded


def wait_until_paused(name):
    """Returns the id of the paused run."""
    deadline = time.monotonic() + 120
    by_name = FlowRunFilter(name=FlowRunFilterName(any_=[f"promotion-{name}"]))
    with get_client(sync_client=True) as client:
        while time.monotonic() < deadline:
            for run in client.read_flow_runs(flow_run_filter=by_name):
                if run.state.is_paused():
                    return run.id
            time.sleep(0.5)
    raise AssertionError("the run was not paused")


def promote_with_answer(name, **answer):
    """The final state of a promotion after a person's answer; one without a name is rejected."""
    with ThreadPoolExecutor(1) as background:
        promotion = background.submit(
            flows.promotion.promotion, name, approval=True, return_state=True
        )
        run_id = wait_until_paused(name)
        with get_client(sync_client=True) as client:
            without_name = client.resume_flow_run(run_id, run_input={**answer, "by": " "})
            assert without_name.status.value == "REJECT"
            client.resume_flow_run(run_id, run_input=answer)
        return promotion.result(timeout=120)


def test_yes_promotes_in_the_persons_name(decisions):
    state = promote_with_answer("yes", approve=True, by="ada", reason="looks right")
    assert (state.name, state.message) == ("Promoted", "yes/2")
    assert decisions == [("promoted", 2, "ada", "looks right")]


@pytest.mark.slow
def test_no_promotes_nothing_and_is_recorded(decisions):
    state = promote_with_answer("no", approve=False, by="ada")
    assert (state.name, state.message) == ("Declined", "no/2 by ada")
    assert decisions == [("declined", 2, "ada", "declined: no reason given")]


@pytest.mark.slow
def test_without_an_answer_nothing_is_decided(decisions):
    state = flows.promotion.promotion(
        "unanswered", approval=True, approval_hours=0.001, return_state=True
    )
    assert state.is_failed()
    assert "never resumed" in state.message
    assert decisions == []


def test_without_approval_no_person_is_asked(decisions):
    state = flows.promotion.promotion("quick", reason="weekly", return_state=True)
    assert state.name == "Promoted"
    assert decisions == [("promoted", 2, "", "weekly")]
