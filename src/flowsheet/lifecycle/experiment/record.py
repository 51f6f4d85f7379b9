"""Evidence and models -> the tracker and the registry; everything may be said twice and is kept once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import Field

from flowsheet.config import ExperimentConfig, FrozenModel
from flowsheet.evaluation.evidence import Evidence
from flowsheet.evaluation.leaderboard import leaderboard_markdown, leaderboard_table
from flowsheet.evaluation.metrics import METRICS
from flowsheet.evaluation.report import Section
from flowsheet.lifecycle.experiment import lock as holding
from flowsheet.lifecycle.experiment import report
from flowsheet.lifecycle.experiment.evaluate import load_evidence
from flowsheet.lifecycle.experiment.folds import ExperimentPlan, ExperimentResults, FoldSpec
from flowsheet.lifecycle.experiment.prepare import load_summary, open_extract
from flowsheet.lifecycle.experiment.stage import Progress
from flowsheet.lifecycle.experiment.train import OnTrial, load_trials, training_key
from flowsheet.lifecycle.model_card import facts as card
from flowsheet.state.hashing import digest
from flowsheet.state.json_files import read_json
from flowsheet.tracking import model_registry
from flowsheet.tracking.packaging import log_model
from flowsheet.tracking.runs import DataSet, ParentRun, Tracker
from flowsheet.tracking.store import TrackerUnreachable


class RunSummary(FrozenModel):
    """What a run tells its user."""

    experiment: str
    run_id: str
    headline: str
    columns: list[str]
    rows: list[list[str]]
    """The leaderboard, best first, in words."""
    markdown: str
    registered: list[str]
    report: str
    reused: list[str]
    """Stages that were there already."""
    left_out: dict[str, str] = Field(default_factory=dict)
    """Models that do not apply to the task, and why."""


def config_fingerprint(config: ExperimentConfig) -> str:
    """sha256 of all choices that a result depends on, before any data is seen."""
    return digest(config.model_dump(mode="json", exclude={"compute", "description"}))


def flow_run_tag(config: ExperimentConfig) -> str:
    """A Prefect tag that the flow runs of the same choices share."""
    return f"experiment:{config_fingerprint(config)[:16]}"


@contextlib.contextmanager
def exclusive(config: ExperimentConfig, progress: Progress) -> Iterator[None]:
    """Hold the experiment: the same choices run once at a time. Runs that a kill has left open are closed."""
    Tracker.open().close_stale_runs(holding.is_stale)
    with holding.exclusive(config_fingerprint(config), progress):
        yield


def experiment_key(config: ExperimentConfig, plan: ExperimentPlan) -> str:
    """What the MLflow run of an experiment is found by: equal keys, equal results."""
    return digest(
        {
            "name": config.name,
            "models": {name: plan.key(name) for name in config.models},
            "evaluation": config.evaluation.model_dump(mode="json"),
            "memory": config.memory.model_dump(mode="json") if config.memory else None,
            "registry": config.registry.model_dump(mode="json"),
        }
    )


def data_fingerprints(plan: ExperimentPlan) -> dict[str, str]:
    """Of the data that the experiment's numbers come from."""
    data = plan.first_fold.data
    return {
        "fingerprint.records": open_extract(data.extract).manifest.source.input,
        "fingerprint.extract": open_extract(data.extract).fingerprint,
        "fingerprint.windows": data.windows.key,
        "fingerprint.split": plan.split_fingerprint(),
    }


@contextlib.contextmanager
def track_experiment(
    config: ExperimentConfig, plan: ExperimentPlan, tags: Mapping[str, str]
) -> Iterator[ParentRun]:
    """The experiment's MLflow run; a failure inside the block is told to it.

    ``tags`` mark the run, and keep it apart from the run of the same experiment without them.
    """
    tracker = Tracker.open()
    data = plan.first_fold.data
    counts = {name: n for name, n in load_summary(data.windows).items() if isinstance(n, int)}
    dataset = DataSet(
        config.cohort.name,
        open_extract(data.extract).fingerprint,
        config.cohort.source,
        counts=counts,
    )
    key = experiment_key(config, plan)
    parent = tracker.start_experiment_run(
        config,
        digest([key, tags]) if tags else key,
        data_fingerprints(plan),
        [dataset],
        tags,
        run_lock=holding.lock_tag(config_fingerprint(config)),
    )
    with _failing(tracker, parent.run_id):
        yield parent


@contextlib.contextmanager
def trial_recorder(each: FoldSpec, run_id: str) -> Iterator[OnTrial]:
    """A listener that records every trial of a model in a round as it ends, below :func:`fold_run_id`'s run."""
    tracker = Tracker.open()
    with _failing(tracker, run_id):
        yield lambda trial: tracker.sync_trials(run_id, each.config.tuning.metric, [trial])


@contextlib.contextmanager
def _failing(tracker: Tracker, run_id: str) -> Iterator[None]:
    """Tell a run of a failure inside the block; a tracker that does not answer is not waited for again."""
    try:
        yield
    except TrackerUnreachable:
        raise
    except BaseException as error:
        with contextlib.suppress(TrackerUnreachable):
            tracker.fail(
                run_id, f"{type(error).__name__}: {error}", killed=not isinstance(error, Exception)
            )
        raise


def _model_run(tracker: Tracker, plan: ExperimentPlan, name: str, run_id: str) -> str:
    return tracker.start_model_run(run_id, name, plan.key(name))


def fold_run_id(plan: ExperimentPlan, each: FoldSpec, name: str, run_id: str) -> str:
    """Where a round's trials belong: below the model's run, or below its fold's where there are several."""
    tracker = Tracker.open()
    child = _model_run(tracker, plan, name, run_id)
    if len(plan.all_folds) == 1:
        return child
    return tracker.start_fold_run(
        child, name, each.name, training_key(each.config, name, each.data)
    )


def record_results(
    results: ExperimentResults, run: ParentRun, progress: Progress, sections: Sequence[Section] = ()
) -> RunSummary:
    """Record the evidence, package and register every model, close the runs.

    Of a run that an earlier call has finished, nothing is recorded again. ``sections`` of special
    studies are shown in the report.
    """
    tracker, evidence = Tracker.open(), load_evidence(results.evidence)
    html = report.path(results)
    if not (run.finished and html.is_file()):
        report.write(results, run.run_id, sections)
    registered = []
    for name in results.models:
        child = _model_run(tracker, results.plan, name, run.run_id)
        if not run.finished:
            _record_model(tracker, results, name, run.run_id, evidence)
        if results.plan.final_refit:
            registered.append(_register(results, name, child, evidence))
            progress(registered[-1])
        if not run.finished:
            tracker.finish(child)
    if not run.finished:
        _record_evidence(tracker, results, run.run_id, html)
    columns, *rows = leaderboard_table(evidence)
    return RunSummary(
        experiment=results.config.name,
        run_id=run.run_id,
        headline=evidence.headline,
        columns=columns,
        rows=rows,
        markdown=leaderboard_markdown(evidence),
        registered=registered,
        report=str(html),
        reused=[name for name, made in results.stages.items() if made.reused],
        left_out=results.left_out,
    )


def _record_model(
    tracker: Tracker, results: ExperimentResults, name: str, run_id: str, evidence: Evidence
) -> None:
    """The figures on the model's run; trials and parameters where they belong."""
    child = _model_run(tracker, results.plan, name, run_id)
    for each in results.plan.all_folds:
        made, metric = results.trained[each.name][name], each.config.tuning.metric
        run = fold_run_id(results.plan, each, name, run_id)
        tracker.sync_trials(run, metric, load_trials(made))
        tuning = read_json(made.folder / "tuning.json")
        fit = {f"valid.{metric}": tuning["value"], "training.seconds": made.seconds}
        tracker.log(run, params={f"model.{k}": v for k, v in tuning["params"].items()}, metrics=fit)
        tracker.log_artifacts(run, made.folder / "tables", "tables")
        if run != child:
            tracker.finish(run)
    tracker.log(child, metrics=evidence.metrics(name))


def _register(results: ExperimentResults, name: str, child: str, evidence: Evidence) -> str:
    """The line that names the registered version."""
    config, service = results.config, results.plan.final_refit
    assert service
    made = results.trained[service.name][name]
    figures = {key: v for key, v in evidence.metrics(name).items() if key.count(".") == 1}
    uri = log_model(child, made.folder / "model_package", metrics=figures)
    registered = f"{config.registry.prefix or config.name}-{name}"
    value = figures.get(f"test.{config.evaluation.metric}")
    described = f"{config.description} {METRICS.get(config.evaluation.metric).label} {_number(value)} on held-out subjects."
    version = model_registry.register(registered, child, uri, made.key, description=described)
    model_registry.set_challenger(registered, version)
    card.keep(registered, version, evidence, open_extract(service.data.extract).manifest)
    return f"registered {registered} version {version}"


def _record_evidence(tracker: Tracker, results: ExperimentResults, run_id: str, html: Path) -> None:
    evidence = load_evidence(results.evidence)
    best = evidence.models[0]
    tracker.log(run_id, metrics=_summary(evidence.metrics(best)), tags={"flowsheet.best": best})
    tracker.log_artifacts(run_id, results.evidence.folder, "evidence")
    if results.memory:
        tracker.log_artifacts(run_id, results.memory.folder, "memory")
    tracker.log_artifacts(run_id, html.parent, "report")
    tracker.set_description(
        run_id, f"{results.config.description}\n\n{leaderboard_markdown(evidence)}"
    )
    tracker.close_child_runs(run_id)
    tracker.finish(run_id)


def _summary(figures: Mapping[str, float]) -> dict[str, float]:
    """The best model's figures under names that say so, for a list of experiments."""
    return {
        name.replace("test.", "best."): v for name, v in figures.items() if name.count(".") == 1
    }


def _number(value: float | None) -> str:
    return "not estimable" if value is None else f"{value:.3f}"
