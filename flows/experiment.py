"""The main flow: ingest, windows, split, a training for each model, evaluation, registration.

Tasks pass references to finished stages, never data. A stage is identified by a digest of
everything that it depends on, so it is reused by any run, process or machine that needs it again.
Prefect's own cache is off (``NO_CACHE``), because it would not know what a stage depends on.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from prefect import flow, task
from prefect import tags as flow_run_tags
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.flow_engine import FlowRunTimeoutError
from prefect.task_engine import TaskRunTimeoutError
from pydantic import ValidationError

from flows.evaluation import resample_in_workers
from flows.ingest_groups import make_group_builder
from flows.liveness import keep_alive
from flows.records import (
    flow_run_page,
    flush_records,
    mark_killed_runs_crashed,
    page_after_run,
    page_during_run,
    progress_logger,
)
from flows.retries import RETRY_ON_OUTAGE, explain_prefect_error
from flows.runners import make_task_runner
from flows.trainings import TrainingResults, Upstream, begin, complete, get_stage, train_all
from flows.windows import build_shards
from flowsheet.config import (
    CohortConfig,
    ComputeConfig,
    EvaluationConfig,
    ExperimentConfig,
    FeaturesConfig,
    TaskConfig,
)
from flowsheet.errors import FlowsheetError
from flowsheet.evaluation.report import Section
from flowsheet.lifecycle.experiment import evaluate, prepare, record
from flowsheet.lifecycle.experiment.ablation.plan import plan_ablation
from flowsheet.lifecycle.experiment.ablation.results import evaluate_ablation, join_ablated
from flowsheet.lifecycle.experiment.capacity import check_experiment
from flowsheet.lifecycle.experiment.folds import (
    AblationPlan,
    AblationResults,
    ExperimentPlan,
    ExperimentResults,
    TrainedModels,
    combine_replicates,
    plan_folds,
    repeat_recorded_trials,
)
from flowsheet.lifecycle.experiment.record import RunSummary
from flowsheet.lifecycle.experiment.stage import Stage
from flowsheet.tracking.experiments import run_page
from flowsheet.tracking.runs import ParentRun


@task(cache_policy=NO_CACHE, task_run_name="ingest", **RETRY_ON_OUTAGE)
def ingest(cohort: CohortConfig, compute: ComputeConfig) -> Stage | State[Stage]:
    """Ingest the cohort's records into a validated extract.

    Args:
        cohort: the records and how they are read.
        compute: how many workers there are, and what starts them.
    """
    begin("ingest")
    build = make_group_builder(cohort, compute)
    return complete(prepare.ingest_cohort(cohort, progress_logger("ingest"), build), "ingest")


@task(cache_policy=NO_CACHE, task_run_name="windows", **RETRY_ON_OUTAGE)
def build_windows(
    extract: Stage, task_config: TaskConfig, features: FeaturesConfig
) -> Stage | State[Stage]:
    """Build model-ready sequences from the extract."""
    begin("windows")
    return complete(prepare.build_windows(extract, task_config, features), "windows")


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
    begin("split")
    return complete(prepare.split_subjects(extract, windows, evaluation, seed), "split")


@task(cache_policy=NO_CACHE, task_run_name="evaluate", **RETRY_ON_OUTAGE)
def evaluate_models(
    config: ExperimentConfig, plan: ExperimentPlan, trained: TrainedModels
) -> Stage | State[Stage]:
    """Evaluate all models on the same held-out rows."""
    begin("evaluate")
    return complete(evaluate.evaluate_models(config, plan, trained), "evaluate")


@task(cache_policy=NO_CACHE, task_run_name="memory study", **RETRY_ON_OUTAGE)
def study_memory(
    config: ExperimentConfig, plan: ExperimentPlan, trained: TrainedModels
) -> Stage | State[Stage]:
    """Compare each model's response to a dose with the true effect."""
    from flowsheet.lifecycle.memory_study import study as memory

    begin("memory study")
    return complete(memory.run_memory_study(config, plan, trained), "memory study")


@task(cache_policy=NO_CACHE, task_run_name="record and register", **RETRY_ON_OUTAGE)
def record_results(results: ExperimentResults, run: ParentRun) -> RunSummary:
    """Record the evidence in MLflow and register the models."""
    begin("record and register")
    progress = progress_logger("register")
    return record.record_results(results, run, progress, _extra_sections(results))


def _extra_sections(results: ExperimentResults) -> list[Section]:
    """Sections that special studies add to the report."""
    if results.memory is None:
        return []
    from flowsheet.lifecycle.memory_study import study as memory

    return [memory.make_section(results.memory, evaluate.load_evidence(results.evidence).models)]


@task(cache_policy=NO_CACHE, task_run_name="evaluate ablated models", **RETRY_ON_OUTAGE)
def evaluate_ablated(
    plan: ExperimentPlan, ablation: AblationPlan, whole: TrainedModels, ablated: TrainingResults
) -> Stage | State[Stage]:
    """Evaluate models with some of their inputs beside the whole ones.

    Args:
        plan: all folds of the experiment.
        ablation: what was trained.
        whole: the models of the experiment, by fold.
        ablated: the models with some of their inputs.
    """
    name = "evaluate ablated models"
    begin(name)
    return complete(evaluate_ablation(plan, ablation, whole, ablated.trained), name)


def _ablate(
    plan: ExperimentPlan, trained: TrainedModels, run_id: str, upstream: Upstream
) -> tuple[AblationResults, Upstream]:
    """Train the models again with some of their inputs, and evaluate them.

    Args:
        plan: all folds of the experiment.
        trained: its models.
        run_id: its MLflow run.
        upstream: tasks whose results this one needs.

    Returns:
        The results, and the task that evaluated them.
    """
    ablation = plan_ablation(plan, trained)
    ablated = TrainingResults({}, {}, upstream)
    if ablation.plan:
        ablated = train_all(ablation.plan, run_id, upstream)
    config, together = join_ablated(plan, ablation, trained, ablated.trained)
    resample_in_workers(config, plan, together, ablated.tasks)
    state = evaluate_ablated(
        plan, ablation, trained, ablated, return_state=True, wait_for=ablated.tasks
    )
    results = AblationResults(
        plan=ablation.without(ablated.excluded),
        trained=ablated.trained,
        evidence=get_stage(state),
    )
    return results, [state]


@flow(name="experiment", flow_run_name="{config.name}", validate_parameters=False)
def experiment(config: ExperimentConfig, mlflow_tags: dict[str, str] | None = None) -> RunSummary:
    """Run an experiment from raw records to ranked, registered models.

    Args:
        config: the experiment's configuration.
        mlflow_tags: tags of its MLflow run.
    """
    with keep_alive(), record.exclusive(config, progress_logger("experiment")):
        mark_killed_runs_crashed(record.flow_run_tag(config), partial(_has_choices, config))
        check_experiment(config)
        plan, data = _prepare(config)
        with record.track_experiment(config, plan, mlflow_tags or {}) as run:
            _show_pages(run)
            trained, excluded_models, tasks = train_all(plan, run.run_id, data)
            resample_in_workers(config, plan, trained, tasks)
            evaluated = evaluate_models(config, plan, trained, return_state=True, wait_for=tasks)
            evidence = get_stage(evaluated)
            memory = None
            upstream: Upstream = [evaluated]
            if config.memory:
                studied = study_memory(config, plan, trained, return_state=True, wait_for=upstream)
                memory = get_stage(studied)
                upstream = [evaluated, studied]
            ablation = None
            if config.ablation:
                ablation, upstream = _ablate(plan, trained, run.run_id, upstream)
            results = ExperimentResults(
                config=config,
                plan=plan,
                trained=trained,
                excluded_models=excluded_models,
                evidence=evidence,
                memory=memory,
                ablation=ablation,
            )
            summary = record_results(results, run, wait_for=upstream)
    create_markdown_artifact(
        key="leaderboard", markdown=summary.markdown, description=f"{config.name}: leaderboard"
    )
    flow_run = {"flow run": flow_run_page(page_after_run())}
    return summary.model_copy(update={"pages": summary.pages | flow_run})


def _show_pages(run: ParentRun) -> None:
    """Show where to look at the run while it goes on."""
    show = progress_logger("experiment")
    show(f"MLflow, with flowsheet ui: {run_page(run.experiment_id, run.run_id)}")
    show(f"Prefect: {flow_run_page(page_during_run())}")


def _has_choices(config: ExperimentConfig, parameters: Mapping[str, Any]) -> bool:
    """Whether the parameters of a flow run are those of an experiment with the same choices."""
    try:
        other = ExperimentConfig.model_validate(parameters.get("config"))
    except ValidationError:  # of another release
        return False
    return record.config_fingerprint(other) == record.config_fingerprint(config)


def _prepare(config: ExperimentConfig) -> tuple[ExperimentPlan, list[State[Any]]]:
    """Prepare the data of all folds; also returns the tasks whose results the trainings need."""
    plans = []
    tasks: list[State[Any]] = []
    for replicate in _replicates(config):
        ingested = ingest(replicate.cohort, replicate.compute, return_state=True)
        extract = get_stage(ingested)
        build_shards(extract, replicate.task, replicate.features, replicate.compute, ingested)
        built = build_windows(
            extract, replicate.task, replicate.features, return_state=True, wait_for=[ingested]
        )
        windows = get_stage(built)
        divided = split_subjects(
            extract,
            windows,
            replicate.evaluation,
            replicate.seed,
            return_state=True,
            wait_for=[built],
        )
        plans.append(plan_folds(replicate, extract, windows, get_stage(divided)))
        tasks += [built, divided]
    plan = combine_replicates(plans) if len(plans) > 1 else plans[0]
    return repeat_recorded_trials(plan), tasks


def _replicates(config: ExperimentConfig) -> list[ExperimentConfig]:
    if not config.memory:
        return [config]
    from flowsheet.lifecycle.memory_study import study as memory

    return memory.list_replicates(config)


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
