"""Train one model in one fold as a flow of its own, for the workers of a pool.

The deployments ``train/cpu`` and ``train/gpu`` run this flow. References to the data are passed as
parameters. The trained model stays in the shared store, where the experiment finds it by its key.
Several runs with the same parameters tune the model together.
"""

from __future__ import annotations

from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.liveness import keep_alive
from flows.process_settings import prepare_flow_process
from flows.records import progress_logger
from flows.retries import RETRY_ON_OUTAGE
from flows.shared_store import check_shared_store
from flowsheet.errors import CheckFailed
from flowsheet.lifecycle.experiment import record, train
from flowsheet.lifecycle.experiment.capacity import LESS_DATA
from flowsheet.lifecycle.experiment.folds import FoldSpec
from flowsheet.lifecycle.experiment.stage import Stage
from flowsheet.lifecycle.experiment.training_memory import estimate_training_memory
from flowsheet.lifecycle.runtime.memory_reservations import reserved_memory
from flowsheet.lifecycle.runtime.resources import check_memory

NOT_APPLICABLE = "NotApplicable"
"""State name of a run whose model does not apply to the task; the state's message is the reason."""


@task(cache_policy=NO_CACHE, task_run_name="tune and fit", **RETRY_ON_OUTAGE)
def fit(fold: FoldSpec, model: str, run_id: str) -> Stage:
    """Tune and fit the model; its trials are recorded below the MLflow run."""
    progress = progress_logger(f"{model}{fold.label}")
    with record.trial_recorder(fold, run_id) as on_trial:
        return train.train_model(fold.config, model, fold.data, on_trial, progress)


@flow(name="train", flow_run_name="train-{model}{fold.label}")
def training(fold: FoldSpec, model: str, run_id: str, *, alone: bool = False) -> Stage | State[Any]:
    """Train one model in one fold of an experiment.

    Args:
        fold: the fold's configuration and references to its data.
        model: the model's name in the experiment.
        run_id: the MLflow run to which trials are recorded.
        alone: whether no other training may run on the worker's machine meanwhile.

    Raises:
        UsageError: this worker does not use the store of the run that submitted the training.
        CheckFailed: this worker has not the memory for it.
    """
    prepare_flow_process()
    check_shared_store(fold.data.extract, fold.data.windows, fold.data.split)
    minutes = fold.config.compute.training_minutes
    fit_with_limit = fit.with_options(timeout_seconds=minutes * 60) if minutes else fit
    progress = progress_logger(f"{model}{fold.label}")
    kinds = [fold.config.models[model].kind]
    memory = estimate_training_memory(fold.data, fold.config.compute, kinds)
    check_memory(f"training {model}", memory, LESS_DATA)
    with keep_alive(), reserved_memory(memory, progress, alone=alone):
        try:
            return fit_with_limit(fold, model, run_id)
        except CheckFailed as error:
            return Completed(name=NOT_APPLICABLE, message=error.what)
