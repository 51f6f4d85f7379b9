"""Build the shards of windows in the worker processes of a flow run."""

from __future__ import annotations

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from flows.pieces import Pieces, build_pieces
from flows.retries import RETRY_ON_OUTAGE
from flows.shared_store import check_shared_store
from flowsheet.config import ComputeConfig, FeaturesConfig, TaskConfig
from flowsheet.lifecycle.experiment import prepare
from flowsheet.lifecycle.experiment.stage import Stage
from flowsheet.lifecycle.experiment.window_shards import Stays
from flowsheet.lifecycle.runtime.resources import MIN_PIECES


@task(cache_policy=NO_CACHE, task_run_name="shard-{number}", **RETRY_ON_OUTAGE)
def build_shard(
    extract: Stage, task_config: TaskConfig, features: FeaturesConfig, stays: Stays, number: int
) -> Stage:
    """Build one shard of windows.

    Args:
        extract: stage of the cohort extract.
        task_config: the grid and the target.
        features: which features to build.
        stays: of the shard.
        number: of the shard in this flow run.
    """
    check_shared_store(extract)
    return prepare.build_shard(extract, task_config, features, stays)


def build_shards(
    extract: Stage,
    task_config: TaskConfig,
    features: FeaturesConfig,
    compute: ComputeConfig,
    ingested: State[Any],
) -> None:
    """Build the shards that the windows lack, if several processes are to be used.

    What is not built here, because a process was killed, is built together with the windows.

    Args:
        extract: stage of the cohort extract.
        task_config: the grid and the target.
        features: which features to build.
        compute: how many processes.
        ingested: the task that has made the extract.
    """
    if compute.workers == 1 or compute.pool:
        return
    shards = prepare.plan_shards(extract, task_config, features)
    if len(shards) < MIN_PIECES:
        return
    choices = {"extract": extract, "task_config": task_config, "features": features}
    pieces = Pieces(
        task=build_shard,
        parameters=[
            {**choices, "stays": stays, "number": number} for number, stays in enumerate(shards, 1)
        ],
        memory=prepare.estimate_shard_memory(extract, task_config, features),
        step="windows",
        name="shards to build",
    )
    build_pieces(pieces, compute, [ingested])
