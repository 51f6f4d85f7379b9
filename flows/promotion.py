"""A version into service: the gates judge, and where it is wanted a person approves in the Prefect page."""

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

from flows.liveness import present
from flows.records import progress
from flows.retries import RETRY_ON_OUTAGE
from flowsheet.lifecycle.deployment.gates import GateResult
from flowsheet.lifecycle.deployment.promotion import (
    PromotionResult,
    decline,
    evaluate_candidate,
    load_promotion_config,
    promote,
)
from flowsheet.lifecycle.runtime.local_servers import use_quiet_settings
from flowsheet.tracking.model_registry import ModelVersion


class Approval(RunInput):
    """What the person says."""

    approve: bool
    by: Annotated[str, StringConstraints(pattern=r"\S")]
    reason: str = ""


@task(cache_policy=NO_CACHE, **RETRY_ON_OUTAGE)
def judged(
    name: str, version: int | None, choice: str, service: str | None
) -> tuple[ModelVersion, tuple[GateResult, ...]]:
    """What the gates say, for the page."""
    candidate, gates = evaluate_candidate(
        name, version, load_promotion_config(choice), service=service
    )
    say = progress("judge")
    for gate in gates:
        say(f"{gate.name} {'passed' if gate.passed else 'failed'}: {gate.summary}")
    rows = [
        f"| {gate.name} | {'passed' if gate.passed else '**failed**'} | {gate.summary} |"
        for gate in gates
    ]
    create_markdown_artifact(
        key="gates",
        markdown="\n".join(["| gate | | figures |", "|---|---|---|", *rows]),
        description=f"{candidate.name}/{candidate.version}",
    )
    return candidate, gates


@task(cache_policy=NO_CACHE)
def decided(
    name: str, version: int, choice: str, *, service: str | None, actor: str, reason: str
) -> PromotionResult:
    """The decision, in the log: the gates judge again, against the champion of this moment."""
    return promote(
        name, version, load_promotion_config(choice), service=service, actor=actor, reason=reason
    )


@flow(name="promotion", flow_run_name="promotion-{name}")
def promotion(
    name: str,
    version: int | None = None,
    choice: str = "standard",
    *,
    service: str | None = None,
    approval: bool = False,
    approval_hours: float = 168,
    reason: str = "scheduled",
) -> State[Any]:
    """Promote a registered model's challenger if it passes the gates, and a person approves where
    ``approval`` is set.

    A deployed run that waits for a person holds no worker. Its state is called Promoted, Refused or
    Declined; when nobody answers within ``approval_hours`` it fails, and nothing is decided.
    """
    use_quiet_settings()
    with present():
        candidate, gates = judged(name, version, choice, service)
        actor, why = "", reason
        if approval and all(gate.passed for gate in gates):
            answer = _asked(candidate, gates, approval_hours)
            if not answer.approve:
                decline(
                    candidate,
                    gates,
                    actor=answer.by,
                    reason=f"declined: {answer.reason or 'no reason given'}",
                )
                return Completed(
                    name="Declined", message=f"{candidate.name}/{candidate.version} by {answer.by}"
                )
            actor, why = answer.by, answer.reason or reason
        verdict = decided(
            candidate.name, candidate.version, choice, service=service, actor=actor, reason=why
        )
    failed = ", ".join(gate.name for gate in verdict.gates if not gate.passed)
    said = f"{verdict.decision.name}/{verdict.decision.version}"
    if not verdict.promoted:
        return Completed(name="Refused", message=f"{said}: {failed}")
    return Completed(name="Promoted", message=said)


def _asked(candidate: ModelVersion, gates: tuple[GateResult, ...], hours: float) -> Approval:
    """The person's answer; a deployed run ends meanwhile and begins anew with it."""
    told = [f"{candidate.name}/{candidate.version} passes every gate. Promote it?", ""]
    told += [f"- {gate.name}: {gate.summary}" for gate in gates]
    wanted = Approval.with_initial_data(description="\n".join(told))
    context, seconds = FlowRunContext.get(), round(hours * 3600)
    if context and context.flow_run and context.flow_run.deployment_id:
        return suspend_flow_run(wait_for_input=wanted, timeout=seconds, key="approval")
    return pause_flow_run(wait_for_input=wanted, timeout=seconds, key="approval")
