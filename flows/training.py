"""Training one model in one round as a flow of its own, for the workers of a pool (``train/cpu``,
``train/gpu``).

The reference to the data comes in as parameters; the trained model is left in the shared store,
where whoever asked for it finds it by its key. Several runs with the same parameters tune the model
together.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.liveness import present
from flows.records import progress
from flows.retries import RETRY_ON_OUTAGE
from flowsheet.errors import CheckFailed, UsageError
from flowsheet.lifecycle.experiment import record, train
from flowsheet.lifecycle.experiment.folds import FoldSpec
from flowsheet.lifecycle.experiment.stage import Stage
from flowsheet.lifecycle.runtime.local_servers import use_quiet_settings
from flowsheet.state.store import Store

LEFT_OUT = "LeftOut"
"""Name of the state of a run whose model does not apply to the task; its message says why."""


@task(cache_policy=NO_CACHE, **RETRY_ON_OUTAGE)
def fit(each: FoldSpec, name: str, run_id: str) -> Stage:
    """Tune and fit; its trials are recorded below the MLflow run."""
    with record.trial_recorder(each, run_id) as on_trial:
        return train.train_model(
            each.config, name, each.data, on_trial, progress(f"{name}{each.label}")
        )


@flow(name="train", flow_run_name="train-{name}{each.label}")
def training(each: FoldSpec, name: str, run_id: str) -> Stage | State[Any]:
    """Train model ``name`` in a round, recorded in MLflow's run ``run_id``.

    Raises:
        UsageError: the store of the run that asks is not this worker's.
    """
    use_quiet_settings()
    check_shared_store(each)
    minutes = each.config.compute.training_minutes
    timed = fit.with_options(timeout_seconds=minutes * 60) if minutes else fit
    with present():
        try:
            return timed(each, name, run_id)
        except CheckFailed as refusal:
            return Completed(name=LEFT_OUT, message=refusal.what)


def check_shared_store(each: FoldSpec) -> None:
    """Refuse a round whose data this worker does not see, or whose model it would leave elsewhere."""
    root = Store.open().root
    made = [each.data.extract, each.data.windows, each.data.split]
    foreign = [
        stage
        for stage in made
        if not Path(stage.path).is_relative_to(root) or not stage.folder.is_dir()
    ]
    if foreign:
        raise UsageError(
            f"this worker does not see the {foreign[0].kind} of the run that asks it to train",
            where=f"{foreign[0].path}; this worker's store is {root}",
            todo="set FLOWSHEET_HOME to the same shared folder for the run and for all workers",
        )
