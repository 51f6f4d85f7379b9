"""Has the world moved away from what the champion was trained on? If so, an event tells whoever listens."""

from __future__ import annotations

from pathlib import Path

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event

from flows.ingest import LIMIT_SECONDS, extract_of
from flows.liveness import present
from flows.records import progress
from flows.retries import RETRY_ON_OUTAGE
from flowsheet.lifecycle.deployment.monitoring import (
    MonitoringResult,
    load_monitoring_config,
    monitor,
)
from flowsheet.lifecycle.runtime.local_servers import use_quiet_settings

DRIFT = "flowsheet.drift"
_TOLD = 50
"""Flags that the event carries, the largest change first."""


@task(cache_policy=NO_CACHE, **RETRY_ON_OUTAGE)
def watch(model: str, extract: str, choice: str) -> MonitoringResult:
    """The comparison with the training reference."""
    say = progress("monitor")
    found = monitor(model, Path(extract), say, load_monitoring_config(choice))
    for flag in found.flags:
        say(f"flagged: {flag.summary}")
    say(f"{len(found.flags)} flags in {found.tests} tests of {found.stays:,} stays: {found.report}")
    return found


@flow(name="monitoring", flow_run_name="monitoring-{model}", timeout_seconds=LIMIT_SECONDS)
def monitoring(
    model: str,
    extract: str | None = None,
    cohort: str | None = None,
    overrides: list[str] | None = None,
    choice: str = "standard",
) -> MonitoringResult:
    """Compare an extract, or a cohort's records as they are now, with what a version was trained
    on.

    Emits the event ``flowsheet.drift`` about the registered model when something is flagged.
    """
    use_quiet_settings()
    with present():
        found = watch(model, extract_of(extract, cohort, overrides or []), choice)
        if found.has_flags:
            _tell(found)
        return found


def _tell(found: MonitoringResult) -> None:
    lines = "\n".join(f"- {flag.summary}" for flag in found.flags)
    create_markdown_artifact(
        key="drift", markdown=lines, description=f"{found.model}/{found.version}: what has changed"
    )
    emit_event(
        event=DRIFT,
        resource={
            "prefect.resource.id": f"flowsheet.model.{found.model}",
            "prefect.resource.name": found.model,
            "flowsheet.version": str(found.version),
        },
        payload={
            "flags": [flag.model_dump() for flag in found.flags[:_TOLD]],
            "count": len(found.flags),
            "report": found.report,
            "run_id": found.run_id,
        },
    )
