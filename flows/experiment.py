"""The main job as a Prefect flow: ingest, windows, split, a training per model, comparison,
registration.

Tasks hand on references to finished stages, never data. What a stage depends on names it, so a
stage that is there already is found again, whichever run, process or server made it.
"""

from __future__ import annotations

from typing import Any

from prefect import Task, flow, task
from prefect import tags as flow_run_tags
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.flow_engine import FlowRunTimeoutError
from prefect.states import Completed
from prefect.task_engine import TaskRunTimeoutError

from flows.liveness import present
from flows.records import flush, mark_killed_runs_crashed, progress
from flows.retries import RETRY_ON_OUTAGE, is_outage, prefect_unreachable
from flows.runners import runner
from flowsheet.config import (
    CohortConfig,
    EvaluationConfig,
    ExperimentConfig,
    FeaturesConfig,
    TaskConfig,
)
from flowsheet.errors import CheckFailed, FlowsheetError
from flowsheet.evaluation.report import Section
from flowsheet.lifecycle.experiment import (
    evaluate,
    prepare,
    record,
    train,
)
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
from flowsheet.tracking.runs import ParentRun


def _told(stage: Stage, name: str) -> Stage | State[Stage]:
    """The stage; one that was found again shows in the Prefect page as "Reused"."""
    if not stage.reused:
        progress(name)(f"done in {stage.seconds:.1f} s")
        return stage
    progress(name)(f"reused (made earlier in {stage.seconds:.1f} s)")
    return Completed(name="Reused", message=f"made earlier in {stage.seconds:.1f} s", data=stage)


@task(cache_policy=NO_CACHE, **RETRY_ON_OUTAGE)
def ingest(cohort: CohortConfig) -> Stage | State[Stage]:
    """Raw records to a validated extract."""
    return _told(prepare.ingest_cohort(cohort, progress("ingest")), "ingest")


@task(cache_policy=NO_CACHE, **RETRY_ON_OUTAGE)
def windows(extract: Stage, chosen: TaskConfig, features: FeaturesConfig) -> Stage | State[Stage]:
    """Extract to model-ready sequences."""
    return _told(prepare.build_windows(extract, chosen, features), "windows")


@task(cache_policy=NO_CACHE, **RETRY_ON_OUTAGE)
def split(
    extract: Stage, made: Stage, evaluation: EvaluationConfig, seed: int
) -> Stage | State[Stage]:
    """Who trains, who validates, who is held out."""
    return _told(prepare.split_subjects(extract, made, evaluation, seed), "split")


@task(cache_policy=NO_CACHE, task_run_name="train-{name}{each.label}", **RETRY_ON_OUTAGE)
def train_model(each: FoldSpec, name: str, run_id: str) -> Stage | State[Stage]:
    """Tune and fit one model in one round; its trials are recorded below the run as they end."""
    label = f"{name}{each.label}"
    with record.trial_recorder(each, run_id) as on_trial:
        made = train.train_model(each.config, name, each.data, on_trial, progress(label))
    return _told(made, label)


@task(cache_policy=NO_CACHE, task_run_name="train-{name}{each.label}")
def train_model_on_pool(each: FoldSpec, name: str, run_id: str) -> Stage | State[Stage]:
    """The same on the work pool that the compute choice names."""
    from flows.pool import train_on_pool

    label = f"{name}{each.label}"
    return _told(train_on_pool(each, name, run_id, progress(label)), label)


@task(cache_policy=NO_CACHE, **RETRY_ON_OUTAGE)
def compare_models(
    config: ExperimentConfig, plan: ExperimentPlan, trained: TrainedModels
) -> Stage | State[Stage]:
    """Probabilities of all models on the same held-out rows to evidence."""
    return _told(evaluate.evaluate_models(config, plan, trained), "compare")


@task(cache_policy=NO_CACHE, **RETRY_ON_OUTAGE)
def study_memory(
    config: ExperimentConfig, plan: ExperimentPlan, trained: TrainedModels
) -> Stage | State[Stage]:
    """What each model remembers of a dose, beside the law."""
    from flowsheet.lifecycle.memory_study import study as memory

    return _told(memory.study(config, plan, trained), "memory")


@task(cache_policy=NO_CACHE, **RETRY_ON_OUTAGE)
def register(results: ExperimentResults, run: ParentRun) -> RunSummary:
    """Evidence to the tracker, models to the registry."""
    return record.record_results(results, run, progress("register"), _sections(results))


def _sections(results: ExperimentResults) -> list[Section]:
    """What special studies add to the report."""
    if results.memory is None:
        return []
    from flowsheet.lifecycle.memory_study import study as memory

    return [memory.section(results.memory, evaluate.load_evidence(results.evidence).models)]


@flow(name="experiment", flow_run_name="{config.name}", validate_parameters=False)
def experiment(config: ExperimentConfig, tags: dict[str, str] | None = None) -> RunSummary:
    """One experiment from records to a ranked, registered model; ``tags`` become tags of its MLflow run."""
    with present(), record.exclusive(config, progress("experiment")):
        mark_killed_runs_crashed(record.flow_run_tag(config))
        plan = _prepared(config)
        with record.track_experiment(config, plan, tags or {}) as run:
            trained, left_out = _train_all(plan, run.run_id)
            results = ExperimentResults(
                config=config,
                plan=plan,
                trained=trained,
                excluded_models=left_out,
                evidence=_result(compare_models(config, plan, trained, return_state=True)),
                memory=_result(study_memory(config, plan, trained, return_state=True))
                if config.memory
                else None,
            )
            outcome = register(results, run)
    create_markdown_artifact(
        key="leaderboard", markdown=outcome.markdown, description=f"{config.name}: leaderboard"
    )
    return outcome


def _prepared(config: ExperimentConfig) -> ExperimentPlan:
    """The rounds of the experiment, with the data of each."""
    plans = []
    for each in _replicates(config):
        extract = _result(ingest(each.cohort, return_state=True))
        made = _result(windows(extract, each.task, each.features, return_state=True))
        frozen = _result(split(extract, made, each.evaluation, each.seed, return_state=True))
        plans.append(plan_folds(each, extract, made, frozen))
    return combine_replicates(plans) if len(plans) > 1 else plans[0]


def _replicates(config: ExperimentConfig) -> list[ExperimentConfig]:
    if not config.memory:
        return [config]
    from flowsheet.lifecycle.memory_study import study as memory

    return memory.replicates(config)


def _result(state: State[Any]) -> Stage:
    made = state.result()
    assert isinstance(made, Stage)
    return made


def _train_all(
    plan: ExperimentPlan, run_id: str
) -> tuple[dict[str, dict[str, Stage]], dict[str, str]]:
    """Every model's stage in every round, and why a model was left out.

    Finished ones are looked up here; the others train in worker processes, because threads that
    train side by side would share one random state. A model that one round refuses is left out of
    all.

    Raises:
        CheckFailed: no model applies to the task.
    """
    jobs = {
        (each.name, name): (each, name, record.start_fold_run(plan, each, name, run_id))
        for each in plan.all_folds
        for name in each.config.models
    }
    waiting = {
        key: _trainer(job[0].config).submit(*job, return_state=False)
        for key, job in jobs.items()
        if not train.is_trained(train.training_key(job[0].config, job[1], job[0].data))
    }
    trained: dict[str, dict[str, Stage]] = {each.name: {} for each in plan.all_folds}
    left_out: dict[str, str] = {}
    for key, job in jobs.items():
        try:
            made = (
                waiting[key].result()
                if key in waiting
                else _result(train_model(*job, return_state=True))
            )
            assert isinstance(made, Stage)
            trained[key[0]][key[1]] = made
        except CheckFailed as refusal:
            left_out[key[1]] = refusal.what
    kept = {
        each: {n: made for n, made in some.items() if n not in left_out}
        for each, some in trained.items()
    }
    if not kept[plan.first_fold.name]:
        raise CheckFailed(
            "no model could be trained",
            where=", ".join(left_out),
            todo="; ".join(left_out.values()),
        )
    return kept, left_out


def _trainer(config: ExperimentConfig) -> Task[..., Any]:
    compute = config.compute
    limit = compute.training_minutes and compute.training_minutes * 60
    # on a pool the limit holds there: the time spent waiting for a worker does not count
    return train_model_on_pool if compute.pool else train_model.with_options(timeout_seconds=limit)


def run(config: ExperimentConfig, tags: dict[str, str] | None = None) -> RunSummary:
    """Run the flow with as many worker processes as the compute choice allows, and see its records kept."""
    minutes = config.compute.run_minutes
    chosen = experiment.with_options(
        task_runner=runner(config.compute), timeout_seconds=minutes * 60 if minutes else None
    )
    try:
        with flow_run_tags(record.flow_run_tag(config)):
            outcome: RunSummary = chosen(config, tags)
            return outcome
    except (TaskRunTimeoutError, FlowRunTimeoutError) as error:
        raise FlowsheetError(
            "a time limit was reached",
            where=f"compute.training_minutes={config.compute.training_minutes}, compute.run_minutes={minutes}",
            todo="raise the limit and start again: finished trials and stages are kept",
        ) from error
    except Exception as error:
        if (
            not isinstance(error, FlowsheetError)
            and is_outage(error)
            and (told := prefect_unreachable())
        ):
            raise told from error
        raise
    finally:
        flush()
