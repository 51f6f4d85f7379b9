"""Evidence and models -> the tracker and the registry; everything may be said twice and is kept once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import Field

from flowsheet.config import ExperimentConfig, Frozen
from flowsheet.evaluation.evidence import Evidence
from flowsheet.evaluation.leaderboard import leaderboard_markdown, leaderboard_table
from flowsheet.evaluation.metrics import METRICS
from flowsheet.home import Store, digest, read_json
from flowsheet.lifecycle import report
from flowsheet.lifecycle.compare import evidence as read_evidence
from flowsheet.lifecycle.prepare import open_extract, summary
from flowsheet.lifecycle.stage import Progress, Stage
from flowsheet.lifecycle.train import Data, OnTrial, training_key, trials_of
from flowsheet.tracking.packaging import log_model
from flowsheet.tracking.registry import register
from flowsheet.tracking.runs import DataSet, ParentRun, Tracker


class Outcome(Frozen):
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


def identity(config: ExperimentConfig) -> str:
    """sha256 of all choices that a result depends on, before any data is seen."""
    return digest(config.model_dump(mode="json", exclude={"compute", "description"}))


def tag(config: ExperimentConfig) -> str:
    """A Prefect tag that the flow runs of the same choices share."""
    return f"experiment:{identity(config)[:16]}"


def alone(config: ExperimentConfig, progress: Progress) -> contextlib.AbstractContextManager[None]:
    """Hold the experiment: the same choices run once at a time."""
    return Store.open().lock(
        "experiment", identity(config), lambda: progress("waiting: the same experiment is already running")
    )


def experiment_key(config: ExperimentConfig, data: Data) -> str:
    """What the MLflow run of an experiment is found by: equal keys, equal results."""
    return digest(
        {
            "name": config.name,
            "models": {name: training_key(config, name, data) for name in config.models},
            "evaluation": config.evaluation.model_dump(mode="json"),
            "registry": config.registry.model_dump(mode="json"),
        }
    )


@contextlib.contextmanager
def tracked(config: ExperimentConfig, data: Data) -> Iterator[ParentRun]:
    """The experiment's MLflow run; a failure inside the block is told to it."""
    tracker = Tracker.open()
    extract, counted = open_extract(data.extract), summary(data.windows)
    fingerprints = {
        "fingerprint.extract": extract.fingerprint,
        "fingerprint.windows": data.windows.key,
        "fingerprint.split": data.subjects().fingerprint,
    }
    counts = {name: n for name, n in counted.items() if isinstance(n, int)}
    dataset = DataSet(config.cohort.name, extract.fingerprint, config.cohort.source, counts=counts)
    parent = tracker.start(config, experiment_key(config, data), fingerprints, [dataset])
    try:
        yield parent
    except BaseException as error:
        tracker.fail(parent.run_id, f"{type(error).__name__}: {error}", killed=not isinstance(error, Exception))
        raise


@contextlib.contextmanager
def recording(config: ExperimentConfig, name: str, data: Data, run_id: str) -> Iterator[OnTrial]:
    """A listener that records every trial of a model as it ends."""
    tracker = Tracker.open()
    child = _model_run(tracker, config, name, data, run_id)
    try:
        yield lambda trial: tracker.sync_trials(child, config.tuning.metric, [trial])
    except BaseException as error:
        tracker.fail(child, f"{type(error).__name__}: {error}", killed=not isinstance(error, Exception))
        raise


def _model_run(tracker: Tracker, config: ExperimentConfig, name: str, data: Data, run_id: str) -> str:
    return tracker.model_run(run_id, name, training_key(config, name, data))


def finish(
    config: ExperimentConfig,
    data: Data,
    trained: Mapping[str, Stage],
    compared: Stage,
    *,
    run: ParentRun,
    progress: Progress,
) -> Outcome:
    """Record the evidence, package and register every model, close the runs.

    Of a run that an earlier call has finished, nothing is recorded again.
    """
    tracker, evidence = Tracker.open(), read_evidence(compared)
    html = report.path(compared)
    if not (run.finished and html.is_file()):
        report.write(config, data, trained, compared, run.run_id)
    registered = []
    for name, made in trained.items():
        child = _model_run(tracker, config, name, data, run.run_id)
        if not run.finished:
            _record_model(tracker, config, child, made, evidence.metrics(name))
        if config.registry.register_models:
            registered.append(_register(config, name, made, child, evidence))
            progress(registered[-1])
        if not run.finished:
            tracker.finish(child)
    if not run.finished:
        _record_evidence(tracker, config, run.run_id, compared, html)
    columns, *rows = leaderboard_table(evidence)
    stages = {"extract": data.extract, "windows": data.windows, "split": data.split, **trained, "evidence": compared}
    return Outcome(
        experiment=config.name,
        run_id=run.run_id,
        headline=evidence.headline,
        columns=columns,
        rows=rows,
        markdown=leaderboard_markdown(evidence),
        registered=registered,
        report=str(html),
        reused=[name for name, made in stages.items() if made.reused],
    )


def _record_model(
    tracker: Tracker, config: ExperimentConfig, child: str, made: Stage, figures: Mapping[str, float]
) -> None:
    tracker.sync_trials(child, config.tuning.metric, trials_of(made))
    tuning = read_json(made.folder / "tuning.json")
    fit = {f"valid.{config.tuning.metric}": tuning["value"], "training.seconds": made.seconds}
    tracker.log(child, params={f"model.{k}": v for k, v in tuning["params"].items()}, metrics={**figures, **fit})
    tracker.log_folder(child, made.folder / "tables", "tables")


def _register(config: ExperimentConfig, name: str, made: Stage, child: str, evidence: Evidence) -> str:
    """The line that names the registered version."""
    figures = {key: v for key, v in evidence.metrics(name).items() if key.count(".") == 1}
    uri = log_model(child, made.folder / "bundle", metrics=figures)
    registered = f"{config.registry.prefix or config.name}-{name}"
    value = figures.get(f"test.{config.evaluation.metric}")
    described = (
        f"{config.description} {METRICS.get(config.evaluation.metric).label} {_number(value)} on held-out subjects."
    )
    version = register(registered, child, uri, made.key, description=described)
    return f"registered {registered} version {version}"


def _record_evidence(tracker: Tracker, config: ExperimentConfig, run_id: str, compared: Stage, html: Path) -> None:
    evidence = read_evidence(compared)
    best = evidence.models[0]
    tracker.log(run_id, metrics=_summary(evidence.metrics(best)), tags={"flowsheet.best": best})
    tracker.log_folder(run_id, compared.folder, "evidence")
    tracker.log_folder(run_id, html.parent, "report")
    tracker.describe(run_id, f"{config.description}\n\n{leaderboard_markdown(evidence)}")
    tracker.finish(run_id)


def _summary(figures: Mapping[str, float]) -> dict[str, float]:
    """The best model's figures under names that say so, for a list of experiments."""
    return {name.replace("test.", "best."): v for name, v in figures.items() if name.count(".") == 1}


def _number(value: float | None) -> str:
    return "not estimable" if value is None else f"{value:.3f}"
