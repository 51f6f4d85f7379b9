"""Build an ingest's batches of stays in the worker processes of a flow run.

The process of the ingest reads the records, and puts the batches together in the order of their
stays. It finds them in the folder of its spill, and builds those that are not there.
"""

from __future__ import annotations

from pathlib import Path

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.liveness import keep_alive
from flows.pieces import Pieces, Runner, build_pieces, has_room
from flows.records import flush_records, progress_logger
from flows.retries import RETRY_ON_OUTAGE
from flows.runners import make_task_runner
from flows.shared_store import check_shared_folder
from flowsheet.cohort.divided import BuildGroups, ParsedGroups
from flowsheet.cohort.ingest import ingest as ingest_source
from flowsheet.cohort.ingest import make_source
from flowsheet.config import CohortConfig, ComputeConfig
from flowsheet.lifecycle.experiment import ingest_groups, prepare
from flowsheet.state.capacity import format_bytes
from flowsheet.state.memory import limited_memory, resident_memory, usable_memory
from flowsheet.state.store import shared_folder


@task(cache_policy=NO_CACHE, task_run_name="ingest-{number}", **RETRY_ON_OUTAGE)
def build_group(cohort: CohortConfig, folder: Path, number: int) -> None:
    """Build the batch of a group of stays, and leave it in the folder.

    Args:
        cohort: as the ingest has it.
        folder: of what the ingest has read.
        number: of the group, from 1 on.
    """
    check_shared_folder(folder, "what the ingest has read")
    ingest_groups.build_group(cohort, folder, number - 1)


def make_group_builder(cohort: CohortConfig, compute: ComputeConfig) -> BuildGroups | None:
    """Has groups of stays built in this flow run's workers, where that is worth it.

    None, if this flow run has no workers of its own.

    Args:
        cohort: what is ingested.
        compute: how many workers there are, and what starts them.
    """
    if compute.workers == 1 or compute.pool:
        return None

    def build(groups: ParsedGroups) -> None:
        if groups.n_groups < ingest_groups.MIN_GROUPS:
            return
        memory = groups.estimate_memory()
        with limited_memory(usable_memory() - resident_memory()):
            if obstacle := _find_obstacle(compute, memory):
                progress_logger("ingest")(f"one process builds all groups of stays: {obstacle}")
                return
            groups.save()
            choices = {"cohort": cohort, "folder": groups.folder}
            pieces = Pieces(
                task=build_group,
                parameters=[{**choices, "number": i + 1} for i in range(groups.n_groups)],
                memory=memory,
                step="ingest",
                name="groups of stays",
            )
            build_pieces(pieces, compute)

    return build


def _find_obstacle(compute: ComputeConfig, memory: int) -> str | None:
    """Why workers cannot build groups of stays; None if they can.

    Args:
        compute: how many workers there are, and what starts them.
        memory: bytes that a process needs for a group.
    """
    if shared_folder() and compute.runner != "process":
        return (
            "workers read what the ingest has read from a shared FLOWSHEET_HOME, not from an "
            "object store (FLOWSHEET_STORE)"
        )
    if not has_room(compute, memory):
        return f"two more of about {format_bytes(memory)} each do not fit this machine's memory"
    return None


@flow(name="ingest in workers", flow_run_name="ingest-{cohort.name}", validate_parameters=False)
def ingest_with_workers(cohort: CohortConfig, out: Path | None, compute: ComputeConfig) -> Path:
    """Ingest a cohort's records.

    Args:
        cohort: the records and how they are read.
        out: folder of the extract; None: in the store.
        compute: how many workers there are, and what starts them.

    Returns:
        The folder of the extract.
    """
    progress = progress_logger("ingest")
    build = make_group_builder(cohort, compute)
    with keep_alive():
        if out:
            return ingest_source(make_source(cohort), cohort, out, progress, build).path
        stage = prepare.ingest_cohort(cohort, progress, build)
        return prepare.open_extract(stage).path


def ingest_in_workers(cohort: CohortConfig, out: Path | None, workers: int, runner: Runner) -> Path:
    """Ingest a cohort's records in several processes.

    Args:
        cohort: the records and how they are read.
        out: folder of the extract; None: in the store.
        workers: the most processes.
        runner: what starts them.

    Returns:
        The folder of the extract.
    """
    compute = ComputeConfig(name="workers", workers=workers, runner=runner)
    run = ingest_with_workers.with_options(task_runner=make_task_runner(compute))
    try:
        path: Path = run(cohort, out, compute)
        return path
    finally:
        flush_records()
