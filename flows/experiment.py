"""The main flow: ingest, windows, split, a training for each model, evaluation, registration.

Tasks pass references to finished stages, never data. A stage is identified by a digest of
everything that it depends on, so it is reused by any run, process or machine that needs it again.
Prefect's own cache is off (``NO_CACHE``), because it would not know what a stage depends on.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any, NamedTuple

from prefect import Task, flow, task
from prefect import tags as flow_run_tags
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.flow_engine import FlowRunTimeoutError
from prefect.futures import PrefectFuture
from prefect.states import Completed
from prefect.task_engine import TaskRunTimeoutError

from flows.liveness import keep_alive, mark_tasks_crashed
from flows.records import flush_records, mark_killed_runs_crashed, progress_logger
from flows.retries import RETRY_ON_OUTAGE, explain_prefect_error
from flows.runners import WorkerProcesses, make_task_runner
from flowsheet.config import (
    CohortConfig,
    ComputeConfig,
    EvaluationConfig,
    ExperimentConfig,
    FeaturesConfig,
    TaskConfig,
)
from flowsheet.errors import CheckFailed, FlowsheetError
from flowsheet.evaluation.report import Section
from flowsheet.lifecycle.experiment import evaluate, prepare, record, train
from flowsheet.lifecycle.experiment.folds import (
    ExperimentPlan,
    ExperimentResults,
    FoldSpec,
    TrainedModels,
    combine_replicates,
    plan_folds,
)
from flowsheet.lifecycle.experiment.record import RunSummary
from flowsheet.lifecycle.experiment.stage import Stage
from flowsheet.progress import ProgressLine, report
from flowsheet.tracking.runs import ParentRun


def _complete(stage: Stage, name: str) -> Stage | State[Stage]:
    """Report a finished stage; a reused one gets the state "Reused" in the Prefect page."""
    progress = progress_logger(name)
    if not stage.reused:
        progress(ProgressLine(f"done in {stage.seconds:.1f} s", "stage", 1, 1))
        return stage
    text = f"reused (built earlier in {stage.seconds:.1f} s)"
    progress(ProgressLine(text, "stage", 1, 1))
    return Completed(name="Reused", message=f"built earlier in {stage.seconds:.1f} s", data=stage)


@task(cache_policy=NO_CACHE, task_run_name="ingest", **RETRY_ON_OUTAGE)
def ingest(cohort: CohortConfig) -> Stage | State[Stage]:
    """Ingest the cohort's records into a validated extract."""
    _begin("ingest")
    return _complete(prepare.ingest_cohort(cohort, progress_logger("ingest")), "ingest")


@task(cache_policy=NO_CACHE, task_run_name="windows", **RETRY_ON_OUTAGE)
def build_windows(
    extract: Stage, task_config: TaskConfig, features: FeaturesConfig
) -> Stage | State[Stage]:
    """Build model-ready sequences from the extract."""
    _begin("windows")
    return _complete(prepare.build_windows(extract, task_config, features), "windows")


@task(cache_policy=NO_CACHE, task_run_name="split", **RETRY_ON_OUTAGE)
def split_subjects(
    extract: Stage, windows: Stage, evaluation: EvaluationConfig, seed: int
) -> Stage | State[Stage]:
    """Split the subjects into training, validation and test parts.

    Args:
        extract: stage of the cohort extract.
        windows: stage of its sequences.
        evaluation: the protocol and its fractions, folds, repetitions and sites.
        seed: of the split.
    """
    _begin("split")
    return _complete(prepare.split_subjects(extract, windows, evaluation, seed), "split")


@task(cache_policy=NO_CACHE, task_run_name="train-{model}{fold.label}", **RETRY_ON_OUTAGE)
def train_model(fold: FoldSpec, model: str, run_id: str) -> Stage | State[Stage]:
    """Tune and fit one model in one fold; its trials are recorded below the MLflow run."""
    name = f"{model}{fold.label}"
    _begin(name)
    with record.trial_recorder(fold, run_id) as on_trial:
        stage = train.train_model(fold.config, model, fold.data, on_trial, progress_logger(name))
    return _complete(stage, name)


@task(cache_policy=NO_CACHE, task_run_name="train-{model}{fold.label}")
def train_model_on_pool(fold: FoldSpec, model: str, run_id: str) -> Stage | State[Stage]:
    """Train one model in one fold on the work pool that ``compute.pool`` names."""
    from flows.pool import train_on_pool

    name = f"{model}{fold.label}"
    _begin(name)
    return _complete(train_on_pool(fold, model, run_id, progress_logger(name)), name)


@task(cache_policy=NO_CACHE, task_run_name="evaluate", **RETRY_ON_OUTAGE)
def evaluate_models(
    config: ExperimentConfig, plan: ExperimentPlan, trained: TrainedModels
) -> Stage | State[Stage]:
    """Evaluate all models on the same held-out rows."""
    _begin("evaluate")
    return _complete(evaluate.evaluate_models(config, plan, trained), "evaluate")


@task(cache_policy=NO_CACHE, task_run_name="memory study", **RETRY_ON_OUTAGE)
def study_memory(
    config: ExperimentConfig, plan: ExperimentPlan, trained: TrainedModels
) -> Stage | State[Stage]:
    """Compare each model's response to a dose with the true effect."""
    from flowsheet.lifecycle.memory_study import study as memory

    _begin("memory study")
    return _complete(memory.run_memory_study(config, plan, trained), "memory study")


@task(cache_policy=NO_CACHE, task_run_name="record and register", **RETRY_ON_OUTAGE)
def record_results(results: ExperimentResults, run: ParentRun) -> RunSummary:
    """Record the evidence in MLflow and register the models."""
    _begin("record and register")
    progress = progress_logger("register")
    return record.record_results(results, run, progress, _extra_sections(results))


def _extra_sections(results: ExperimentResults) -> list[Section]:
    """Sections that special studies add to the report."""
    if results.memory is None:
        return []
    from flowsheet.lifecycle.memory_study import study as memory

    return [memory.make_section(results.memory, evaluate.load_evidence(results.evidence).models)]


@flow(name="experiment", flow_run_name="{config.name}", validate_parameters=False)
def experiment(config: ExperimentConfig, mlflow_tags: dict[str, str] | None = None) -> RunSummary:
    """Run an experiment from raw records to ranked, registered models.

    Args:
        config: the experiment's configuration.
        mlflow_tags: tags of its MLflow run.
    """
    with keep_alive(), record.exclusive(config, progress_logger("experiment")):
        mark_killed_runs_crashed(record.flow_run_tag(config))
        plan = _prepare(config)
        with record.track_experiment(config, plan, mlflow_tags or {}) as run:
            trained, excluded_models = _train_all(plan, run.run_id)
            evidence = _get_stage(evaluate_models(config, plan, trained, return_state=True))
            memory = None
            if config.memory:
                memory = _get_stage(study_memory(config, plan, trained, return_state=True))
            results = ExperimentResults(
                config=config,
                plan=plan,
                trained=trained,
                excluded_models=excluded_models,
                evidence=evidence,
                memory=memory,
            )
            summary = record_results(results, run)
    create_markdown_artifact(
        key="leaderboard", markdown=summary.markdown, description=f"{config.name}: leaderboard"
    )
    return summary


def _prepare(config: ExperimentConfig) -> ExperimentPlan:
    """Prepare the data of all folds."""
    plans = []
    for replicate in _replicates(config):
        extract = _get_stage(ingest(replicate.cohort, return_state=True))
        windows = _get_stage(
            build_windows(extract, replicate.task, replicate.features, return_state=True)
        )
        split = _get_stage(
            split_subjects(
                extract, windows, replicate.evaluation, replicate.seed, return_state=True
            )
        )
        plans.append(plan_folds(replicate, extract, windows, split))
    return combine_replicates(plans) if len(plans) > 1 else plans[0]


def _replicates(config: ExperimentConfig) -> list[ExperimentConfig]:
    if not config.memory:
        return [config]
    from flowsheet.lifecycle.memory_study import study as memory

    return memory.list_replicates(config)


def _begin(name: str) -> None:
    """Show that a stage or a training has begun."""
    report(ProgressLine("", "stage", 0, 1), name)


def _get_stage(state: State[Any]) -> Stage:
    stage = state.result()
    assert isinstance(stage, Stage)
    return stage


class _Training(NamedTuple):
    """Arguments of the tasks that train."""

    fold: FoldSpec
    model: str
    run_id: str

    @property
    def name(self) -> str:
        """The model with the label of its fold."""
        return f"{self.model}{self.fold.label}"

    def is_finished(self) -> bool:
        key = train.training_key(self.fold.config, self.model, self.fold.data)
        return train.is_trained(key)


def _train_all(
    plan: ExperimentPlan, run_id: str
) -> tuple[dict[str, dict[str, Stage]], dict[str, str]]:
    """Train every model in every fold.

    Trained models in the store are looked up in this process. The others are trained in worker
    processes, because threads that train at the same time would share one random state.

    Returns:
        {fold name: {model: stage}}, and {model: reason} for the models that do not apply to the
        task. A model that does not apply in one fold is excluded from all.

    Raises:
        CheckFailed: no model applies to the task.
    """
    trainings = [
        _Training(fold, model, record.start_fold_run(plan, fold, model, run_id))
        for fold in plan.all_folds
        for model in fold.config.models
    ]
    trained: dict[str, dict[str, Stage]] = {fold.name: {} for fold in plan.all_folds}
    excluded: dict[str, str] = {}
    for training, outcome in zip(trainings, _run_trainings(trainings), strict=True):
        if isinstance(outcome, CheckFailed):
            excluded[training.model] = outcome.what
        else:
            trained[training.fold.name][training.model] = outcome
    for stages in trained.values():
        for model in excluded:
            stages.pop(model, None)
    if not trained[plan.first_fold.name]:
        raise CheckFailed(
            "none of the models could be trained",
            where=", ".join(excluded),
            todo="; ".join(excluded.values()),
        )
    return trained, excluded


def _run_trainings(trainings: Sequence[_Training]) -> list[Stage | CheckFailed]:
    """The stage of each training, or why its model does not apply to the task.

    When a worker process is killed, the trainings that have not ended start again, with fewer
    processes: most often the system ran out of memory.

    Raises:
        FlowsheetError: a process was killed again.
    """
    outcomes: dict[str, Stage | CheckFailed] = {}
    try:
        _collect_outcomes(trainings, outcomes)
    except BrokenProcessPool:
        _restart_workers(trainings[0].fold.config.compute)
        try:
            _collect_outcomes(trainings, outcomes)
        except BrokenProcessPool as error:
            unfinished = [t.name for t in trainings if t.name not in outcomes]
            raise FlowsheetError(
                "a training process was killed again, perhaps because memory ran out",
                where=f"one of {', '.join(unfinished)}",
                todo="start again with compute.workers=1 or on a machine with more memory: "
                "finished trials are kept",
            ) from error
    return [outcomes[training.name] for training in trainings]


def _collect_outcomes(
    trainings: Sequence[_Training], outcomes: dict[str, Stage | CheckFailed]
) -> None:
    """Add the outcomes of the trainings that have none yet.

    Raises:
        BrokenProcessPool: a worker process was killed, which ends all of them.
    """
    waiting = [training for training in trainings if training.name not in outcomes]
    futures = {
        training.name: _training_task(training.fold.config.compute).submit(
            *training, return_state=False
        )
        for training in waiting
        if not training.is_finished()
    }
    text = (
        f"{len(futures)} models to train, in {trainings[0].fold.config.compute.workers} processes"
    )
    progress_logger("train")(ProgressLine(text if futures else "", "models", 0, len(futures)))
    killed: BrokenProcessPool | None = None
    for training in waiting:
        try:
            outcomes[training.name] = _get_outcome(training, futures.get(training.name))
        except BrokenProcessPool as error:
            killed = error
            mark_tasks_crashed([futures[training.name].task_run_id], "its process was killed")
    if killed:
        raise killed


def _get_outcome(training: _Training, future: PrefectFuture[Any] | None) -> Stage | CheckFailed:
    try:
        if future is None:  # it is in the store
            return _get_stage(train_model(*training, return_state=True))
        stage = future.result()
        assert isinstance(stage, Stage)
        return stage
    except CheckFailed as error:
        return error


def _restart_workers(compute: ComputeConfig) -> None:
    """Replace the worker processes of this flow run by half as many."""
    context = FlowRunContext.get()
    assert context
    assert isinstance(context.task_runner, WorkerProcesses)
    workers = max(1, compute.workers // 2)
    progress_logger("train")(
        "a training process was killed, perhaps because memory ran out; "
        f"starting again with compute.workers={workers}: finished trials are kept"
    )
    context.task_runner.restart(workers)


def _training_task(compute: ComputeConfig) -> Task[..., Any]:
    if compute.pool:  # the worker applies the time limit: waiting for a worker does not count
        return train_model_on_pool
    minutes = compute.training_minutes
    return train_model.with_options(timeout_seconds=minutes and minutes * 60)


def run(config: ExperimentConfig, mlflow_tags: dict[str, str] | None = None) -> RunSummary:
    """Run the flow with the compute choice's worker processes and time limits.

    Raises:
        FlowsheetError: a time limit was reached, or the experiment failed.
        Unreachable: the Prefect or the MLflow server does not answer.
    """
    compute = config.compute
    configured_flow = experiment.with_options(
        task_runner=make_task_runner(compute),
        timeout_seconds=compute.run_minutes * 60 if compute.run_minutes else None,
    )
    try:
        with flow_run_tags(record.flow_run_tag(config)):
            summary: RunSummary = configured_flow(config, mlflow_tags)
            return summary
    except (TaskRunTimeoutError, FlowRunTimeoutError) as error:
        limits = (
            f"compute.training_minutes={compute.training_minutes}, "
            f"compute.run_minutes={compute.run_minutes}"
        )
        raise FlowsheetError(
            "a time limit was reached",
            where=limits,
            todo="increase the limit and start again: finished trials and stages are kept",
        ) from error
    except Exception as error:
        explained = None if isinstance(error, FlowsheetError) else explain_prefect_error(error)
        if explained:
            raise explained from error
        raise
    finally:
        flush_records()
