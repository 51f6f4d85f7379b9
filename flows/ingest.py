"""Ingest a cohort's records into a validated extract, on a schedule."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.liveness import keep_alive
from flows.pieces import Runner, has_workers
from flows.process_settings import prepare_flow_process
from flows.records import progress_logger
from flows.retries import RETRY_ON_OUTAGE
from flowsheet.compose import compose_cohort
from flowsheet.errors import UsageError
from flowsheet.lifecycle.runtime.tuning import keep_freed_memory

TIMEOUT_SECONDS = 6 * 3600
"""Of flows that read a whole extract."""


@task(cache_policy=NO_CACHE, task_run_name="find or ingest extract", **RETRY_ON_OUTAGE)
def find_or_ingest_extract(
    folder: str | None, cohort: str | None, overrides: Sequence[str] = ()
) -> str:
    """The folder of an extract: the given one, or one of the cohort's current records.

    Raises:
        UsageError: neither or both are given.
        CheckFailed: the records cannot be read, or break the contract beyond the declared policy.
    """
    if (folder is None) == (cohort is None):
        raise UsageError(
            "specify either the folder of an extract or the name of a cohort",
            todo="set one of the parameters extract and cohort",
        )
    if folder is not None:
        return folder
    assert cohort is not None

    # polars is imported only now, so that the flow ``ingest`` can set its allocator before.
    from flowsheet.lifecycle.experiment.prepare import ingest_cohort, open_extract

    progress = progress_logger("ingest")
    stage = ingest_cohort(compose_cohort(cohort, list(overrides)), progress)
    extract = open_extract(stage)
    action = "reused" if stage.reused else "ingested"
    progress(f"{action} extract {extract.fingerprint[:16]} in {extract.path}")
    return str(extract.path)


def find_or_ingest(
    folder: str | None, cohort: str | None, overrides: Sequence[str], workers: int, runner: Runner
) -> str:
    """:func:`find_or_ingest_extract`, in several processes where they are asked for.

    Args:
        folder: of an extract.
        cohort: instead of that, a choice in conf/cohort.
        overrides: changes to that choice.
        workers: the most processes.
        runner: what starts them.
    """
    if has_workers(workers, runner) and cohort is not None and folder is None:
        from flows.ingest_groups import ingest_in_workers  # which imports polars

        return str(
            ingest_in_workers(compose_cohort(cohort, list(overrides)), None, workers, runner)
        )
    return find_or_ingest_extract(folder, cohort, overrides)


@flow(name="ingest", flow_run_name="ingest-{cohort}", timeout_seconds=TIMEOUT_SECONDS)
def ingest(
    cohort: str,
    overrides: list[str] | None = None,
    *,
    workers: int = 1,
    runner: Runner = "process",
) -> Path:
    """Read and validate a cohort's records; unchanged records are not ingested again.

    Args:
        cohort: a choice in conf/cohort.
        overrides: changes to that choice, such as ``cohort.path=/records/today``.
        workers: processes that build batches of stays.
        runner: what starts them: ``process``, ``dask`` or ``ray``.

    Returns:
        The folder of the extract.
    """
    prepare_flow_process()
    keep_freed_memory()
    with keep_alive():
        return Path(find_or_ingest(None, cohort, overrides or [], workers, runner))
