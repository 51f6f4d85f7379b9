"""The main job as a Prefect flow: ingest, windows, split, a training per model, comparison, registration.

Tasks hand on references to finished stages, never data. What a stage depends on names it, so a stage that
is there already is found again, whichever run, process or server made it.
"""

from __future__ import annotations

import os
from typing import Any

from prefect import flow, tags, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed
from prefect.task_runners import ProcessPoolTaskRunner

from flows.records import close_killed_runs, flush, progress
from flowsheet.config import CohortConfig, EvaluationConfig, ExperimentConfig, FeaturesConfig, TaskConfig
from flowsheet.errors import CheckFailed
from flowsheet.lifecycle import compare, prepare, record, train
from flowsheet.lifecycle.process import die_with
from flowsheet.lifecycle.record import Outcome
from flowsheet.lifecycle.stage import Stage
from flowsheet.lifecycle.train import Data
from flowsheet.tracking.runs import ParentRun


def _told(stage: Stage, name: str) -> Stage | State[Stage]:
    """The stage; one that was found again shows in the Prefect page as "Reused"."""
    if not stage.reused:
        progress(name)(f"done in {stage.seconds:.1f} s")
        return stage
    progress(name)(f"reused (made earlier in {stage.seconds:.1f} s)")
    return Completed(name="Reused", message=f"made earlier in {stage.seconds:.1f} s", data=stage)


@task(cache_policy=NO_CACHE)
def ingest(cohort: CohortConfig) -> Stage | State[Stage]:
    """Raw records to a validated extract."""
    return _told(prepare.ingest(cohort, progress("ingest")), "ingest")


@task(cache_policy=NO_CACHE)
def windows(extract: Stage, chosen: TaskConfig, features: FeaturesConfig) -> Stage | State[Stage]:
    """Extract to model-ready sequences."""
    return _told(prepare.windows(extract, chosen, features), "windows")


@task(cache_policy=NO_CACHE)
def split(made: Stage, evaluation: EvaluationConfig, seed: int) -> Stage | State[Stage]:
    """Who trains, who validates, who is held out."""
    return _told(prepare.split(made, evaluation, seed), "split")


@task(cache_policy=NO_CACHE, task_run_name="train-{name}")
def train_model(config: ExperimentConfig, name: str, data: Data, run_id: str) -> Stage | State[Stage]:
    """Tune and fit one model; its trials are recorded as they end."""
    with record.recording(config, name, data, run_id) as on_trial:
        made = train.train(config, name, data, on_trial, progress(name))
    return _told(made, name)


@task(cache_policy=NO_CACHE)
def compare_models(config: ExperimentConfig, data: Data, trained: dict[str, Stage]) -> Stage | State[Stage]:
    """Probabilities of all models on the same held-out rows to evidence."""
    return _told(compare.compare(config, data, trained), "compare")


@task(cache_policy=NO_CACHE)
def register(
    config: ExperimentConfig, data: Data, trained: dict[str, Stage], evidence: Stage, run: ParentRun
) -> Outcome:
    """Evidence to the tracker, models to the registry."""
    return record.finish(config, data, trained, evidence, run=run, progress=progress("register"))


@flow(name="experiment", flow_run_name="{config.name}", validate_parameters=False)
def experiment(config: ExperimentConfig) -> Outcome:
    """One experiment from records to a ranked, registered model."""
    with record.alone(config, progress("experiment")):
        close_killed_runs(record.tag(config))
        extract = _result(ingest(config.cohort, return_state=True))
        made = _result(windows(extract, config.task, config.features, return_state=True))
        frozen = _result(split(made, config.evaluation, config.seed, return_state=True))
        data = Data(extract=extract, windows=made, split=frozen)
        with record.tracked(config, data) as run:
            trained, left_out = _train_all(config, data, run.run_id)
            evidence = _result(compare_models(config, data, trained, return_state=True))
            outcome = register(config, data, trained, evidence, run)
    create_markdown_artifact(key="leaderboard", markdown=outcome.markdown, description=f"{config.name}: leaderboard")
    return outcome.model_copy(update={"left_out": left_out})


def _result(state: State[Any]) -> Stage:
    made = state.result()
    assert isinstance(made, Stage)
    return made


def _train_all(config: ExperimentConfig, data: Data, run_id: str) -> tuple[dict[str, Stage], dict[str, str]]:
    """Every model's stage, and why a model was left out.

    Finished ones are looked up here; the others train in worker processes, because threads that train side by
    side would share one random state.

    Raises:
        CheckFailed: no model applies to the task.
    """
    waiting = {
        name: train_model.submit(config, name, data, run_id, return_state=False)
        for name in config.models
        if not train.is_trained(train.training_key(config, name, data))
    }
    trained: dict[str, Stage] = {}
    left_out: dict[str, str] = {}
    for name in config.models:
        try:
            made = (
                waiting[name].result()
                if name in waiting
                else _result(train_model(config, name, data, run_id, return_state=True))
            )
            assert isinstance(made, Stage)
            trained[name] = made
        except CheckFailed as refusal:
            left_out[name] = refusal.what
    if not trained:
        raise CheckFailed("no model could be trained", where=", ".join(left_out), todo="; ".join(left_out.values()))
    return trained, left_out


def run(config: ExperimentConfig) -> Outcome:
    """Run the flow with as many worker processes as the compute choice allows, and see its records kept."""
    workers = ProcessPoolTaskRunner(
        max_workers=min(config.compute.workers, len(config.models)), initializer=die_with, initargs=(os.getpid(),)
    )
    try:
        with tags(record.tag(config)):
            outcome: Outcome = experiment.with_options(task_runner=workers)(config)  # type: ignore[arg-type]
            return outcome
    finally:
        flush()
