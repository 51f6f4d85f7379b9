"""Batch scoring: from an extract to a Parquet file with a risk for every step."""

from __future__ import annotations

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.batches import build_in_workers
from flows.ingest import TIMEOUT_SECONDS, find_or_ingest
from flows.liveness import keep_alive
from flows.pieces import Runner, has_workers
from flows.process_settings import prepare_flow_process
from flows.records import progress_logger
from flows.retries import RETRY_ON_OUTAGE
from flowsheet.lifecycle.deployment.batch_scoring import ScoringResult, plan_batches, score
from flowsheet.state.locations import parse_location


@task(cache_policy=NO_CACHE, task_run_name="score", **RETRY_ON_OUTAGE)
def score_extract(model: str, extract: str, out: str | None) -> ScoringResult:
    """Score every stay; the same version does not score the same records twice."""
    progress = progress_logger("score")
    result = score(model, parse_location(extract), parse_location(out) if out else None, progress)
    progress(
        f"{result.stays:,} stays, {result.steps:,} steps by {result.model}/{result.version}: "
        f"{result.file}"
    )
    return result


@flow(name="scoring", flow_run_name="scoring-{model}", timeout_seconds=TIMEOUT_SECONDS)
def scoring(
    model: str,
    extract: str | None = None,
    cohort: str | None = None,
    overrides: list[str] | None = None,
    out: str | None = None,
    *,
    workers: int = 1,
    runner: Runner = "process",
) -> ScoringResult:
    """Score an extract, or a cohort's current records, with a registered version.

    Args:
        model: ``NAME@ALIAS`` or ``NAME/VERSION``.
        extract: the folder of an extract.
        cohort: instead of an extract, a choice in conf/cohort.
        overrides: changes to that choice, such as ``cohort.path=/records/today``.
        out: an additional copy of the scores is written to this path.
        workers: processes that predict batches of 2,000 stays.
        runner: what starts them: ``process``, ``dask`` or ``ray``.
    """
    prepare_flow_process()
    with keep_alive():
        folder = find_or_ingest(extract, cohort, overrides or [], workers, runner)
        if has_workers(workers, runner):
            build_in_workers("score", plan_batches(model, parse_location(folder)), workers, runner)
        return score_extract(model, folder, out)
