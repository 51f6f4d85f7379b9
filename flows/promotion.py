"""Promote a registered model: the gates are evaluated, and optionally a person approves."""

from __future__ import annotations

from typing import Annotated, Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.flow_runs import pause_flow_run, suspend_flow_run
from prefect.input import RunInput
from prefect.states import Completed
from pydantic import StringConstraints

from flows.liveness import keep_alive
from flows.process_settings import prepare_flow_process
from flows.records import progress_logger
from flows.retries import RETRY_ON_OUTAGE
from flowsheet.lifecycle.deployment.gates import GateResult
from flowsheet.lifecycle.deployment.promotion import (
    PromotionResult,
    decline,
    evaluate_candidate,
    load_promotion_config,
    promote,
)
from flowsheet.tracking.model_registry import ModelVersion


class Approval(RunInput):
    """The form that a person fills in on the Prefect page."""

    approve: bool
    by: Annotated[str, StringConstraints(pattern=r"\S")]
    reason: str = ""


@task(cache_policy=NO_CACHE, task_run_name="evaluate gates", **RETRY_ON_OUTAGE)
def evaluate_gates(
    name: str, version: int | None, config: str, service: str | None
) -> tuple[ModelVersion, tuple[GateResult, ...]]:
    """Evaluate the gates and show them in an artifact of the flow run.

    Args:
        name: the registered model.
        version: the version to promote; the challenger, or the latest version without one.
        config: a choice in conf/promotion.
        service: the registered name under which the version is to serve, if it is another one.
    """
    candidate, gates = evaluate_candidate(
        name, version, load_promotion_config(config), service=service
    )
    progress = progress_logger("gates")
    rows = []
    for gate in gates:
        progress(f"{gate.name} {'passed' if gate.passed else 'failed'}: {gate.summary}")
        rows.append(
            f"| {gate.name} | {'passed' if gate.passed else '**failed**'} | {gate.summary} |"
        )
    create_markdown_artifact(
        key="gates",
        markdown="\n".join(["| gate | result | details |", "|---|---|---|", *rows]),
        description=f"{candidate.name}/{candidate.version}",
    )
    return candidate, gates


@task(cache_policy=NO_CACHE, task_run_name="promote")
def promote_version(
    name: str, version: int, config: str, *, service: str | None, actor: str, reason: str
) -> PromotionResult:
    """Evaluate the gates again, against the current champion, and record the decision.

    Args:
        name: the registered model.
        version: the version to promote.
        config: a choice in conf/promotion.
        service: the registered name under which the version is to serve, if it is another one.
        actor: who decides; empty for the user of this process.
        reason: recorded with the decision.
    """
    return promote(
        name,
        version,
        load_promotion_config(config),
        service=service,
        actor=actor,
        is_attested=bool(actor),
        reason=reason,
    )


@flow(name="promotion", flow_run_name="promotion-{name}")
def promotion(
    name: str,
    version: int | None = None,
    config: str = "standard",
    *,
    service: str | None = None,
    approval: bool = False,
    approval_hours: float = 168,
    reason: str = "scheduled",
) -> State[Any]:
    """Promote a registered model's challenger if it passes the gates.

    A deployed run that waits for approval does not occupy a worker. The final state is named
    Promoted, Refused or Declined. Without an answer within ``approval_hours``, the run fails
    and nothing is decided.

    Args:
        name: the registered model.
        version: the version to promote; the challenger, or the latest version without one.
        config: a choice in conf/promotion.
        service: the registered name under which the version is to serve, if it is another one.
        approval: whether a person must approve in the Prefect page.
        approval_hours: how long to wait for the approval.
        reason: recorded with the decision, unless the person gives another one.
    """
    prepare_flow_process()
    with keep_alive():
        candidate, gates = evaluate_gates(name, version, config, service)
        actor = ""
        if approval and all(gate.passed for gate in gates):
            answer = _wait_for_approval(candidate, gates, approval_hours)
            if not answer.approve:
                return _decline(candidate, gates, answer)
            actor = answer.by
            reason = answer.reason or reason
        result = promote_version(
            candidate.name, candidate.version, config, service=service, actor=actor, reason=reason
        )
    promoted = f"{result.decision.name}/{result.decision.version}"
    if not result.promoted:
        failed = ", ".join(gate.name for gate in result.gates if not gate.passed)
        return Completed(name="Refused", message=f"{promoted}: {failed}")
    return Completed(name="Promoted", message=promoted)


def _wait_for_approval(
    candidate: ModelVersion, gates: tuple[GateResult, ...], hours: float
) -> Approval:
    """Wait for a person's answer; a deployed run is suspended and starts again with the answer."""
    question = f"{candidate.name}/{candidate.version} passes every gate. Promote it?"
    gate_lines = [f"- {gate.name}: {gate.summary}" for gate in gates]
    form = Approval.with_initial_data(description="\n".join([question, "", *gate_lines]))
    seconds = round(hours * 3600)
    context = FlowRunContext.get()
    if context and context.flow_run and context.flow_run.deployment_id:
        return suspend_flow_run(wait_for_input=form, timeout=seconds, key="approval")
    return pause_flow_run(wait_for_input=form, timeout=seconds, key="approval")


def _decline(
    candidate: ModelVersion, gates: tuple[GateResult, ...], answer: Approval
) -> State[Any]:
    reason = f"declined: {answer.reason or 'no reason given'}"
    decline(candidate, gates, actor=answer.by, reason=reason)
    message = f"{candidate.name}/{candidate.version} by {answer.by}"
    return Completed(name="Declined", message=message)
