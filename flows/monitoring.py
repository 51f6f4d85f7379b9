"""Compare current records with a model's training data; a flagged difference emits an event."""

from __future__ import annotations

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event

from flows.batches import build_in_workers
from flows.ingest import TIMEOUT_SECONDS, find_or_ingest
from flows.liveness import keep_alive
from flows.pieces import Runner, has_workers
from flows.process_settings import prepare_flow_process
from flows.records import progress_logger
from flows.retries import RETRY_ON_OUTAGE
from flowsheet.lifecycle.deployment.monitoring import (
    MonitoringResult,
    load_monitoring_config,
    monitor,
    plan_batches,
)
from flowsheet.state.locations import local_path, parse_location

DRIFT_EVENT = "flowsheet.drift"
_MAX_FLAGS_IN_EVENT = 50
"""The largest changes come first."""


@task(cache_policy=NO_CACHE, task_run_name="compare with training data", **RETRY_ON_OUTAGE)
def compare_with_training_data(
    model: str, extract: str, config: str, metrics: str | None
) -> MonitoringResult:
    """Compare the extract with the model's reference.

    Args:
        model: ``NAME@ALIAS`` or ``NAME/VERSION``.
        extract: the folder of the extract.
        config: a choice in conf/monitoring.
        metrics: file for Prometheus metrics.
    """
    progress = progress_logger("monitor")
    choice = load_monitoring_config(config)
    file = local_path(metrics, "metrics") if metrics else None
    result = monitor(model, parse_location(extract), progress, choice, metrics=file)
    for flag in result.flags:
        progress(f"flagged: {flag.summary}")
    if not result.judged:
        progress(result.headline)
    progress(
        f"{len(result.flags)} flags in {result.tests} tests of {result.stays:,} stays: "
        f"{result.report}"
    )
    return result


@flow(name="monitoring", flow_run_name="monitoring-{model}", timeout_seconds=TIMEOUT_SECONDS)
def monitoring(
    model: str,
    extract: str | None = None,
    cohort: str | None = None,
    overrides: list[str] | None = None,
    config: str = "standard",
    *,
    metrics: str | None = None,
    workers: int = 1,
    runner: Runner = "process",
) -> MonitoringResult:
    """Compare an extract, or a cohort's current records, with a model's training data.

    If any property is flagged, the event ``flowsheet.drift`` is emitted for the registered model.

    Args:
        model: ``NAME@ALIAS`` or ``NAME/VERSION``.
        extract: the folder of an extract.
        cohort: instead of an extract, a choice in conf/cohort.
        overrides: changes to that choice, such as ``cohort.path=/records/today``.
        config: a choice in conf/monitoring.
        metrics: a file ``*.prom`` for node_exporter's textfile collector.
        workers: processes that profile batches of 2,000 stays and predict their risks.
        runner: what starts them: ``process``, ``dask`` or ``ray``.
    """
    prepare_flow_process()
    with keep_alive():
        folder = find_or_ingest(extract, cohort, overrides or [], workers, runner)
        if has_workers(workers, runner):
            choice = load_monitoring_config(config)
            plan = plan_batches(model, parse_location(folder), choice)
            build_in_workers("monitor", plan, workers, runner)
        result = compare_with_training_data(model, folder, config, metrics)
        if result.has_flags:
            emit_drift_event(result, folder)
        return result


def emit_drift_event(result: MonitoringResult, extract: str) -> None:
    """Emit the event ``flowsheet.drift``, and list the flags in an artifact of the flow run.

    Args:
        result: the comparison.
        extract: the folder of the extract that was compared, which a retraining can take.
    """
    create_markdown_artifact(
        key="drift",
        markdown="\n".join(f"- {flag.summary}" for flag in result.flags),
        description=f"{result.model}/{result.version}: differences from the training data",
    )
    emit_event(
        event=DRIFT_EVENT,
        resource={
            "prefect.resource.id": f"flowsheet.model.{result.model}",
            "prefect.resource.name": result.model,
            "flowsheet.version": str(result.version),
        },
        payload={
            "model": result.model,
            "version": result.version,
            "records": extract,
            "flags": [flag.model_dump() for flag in result.flags[:_MAX_FLAGS_IN_EVENT]],
            "count": len(result.flags),
            "report": result.report,
            "run_id": result.run_id,
        },
    )
