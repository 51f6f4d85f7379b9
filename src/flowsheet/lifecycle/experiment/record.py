"""Record an experiment in MLflow: runs, trials, evidence and registered models.

Every function may be called again for the same experiment, as after a kill: runs are found by
their keys, and nothing is recorded or registered twice.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import Field

from flowsheet.config import ExperimentConfig, FrozenModel
from flowsheet.evaluation.evidence import Evidence
from flowsheet.evaluation.leaderboard import (
    LeaderboardTable,
    list_leaderboard_tables,
    render_leaderboard_markdown,
)
from flowsheet.evaluation.metrics import get_metric
from flowsheet.evaluation.report import Section
from flowsheet.evaluation.subset_names import describe_subset
from flowsheet.evaluation.subsets import NEW_ONSETS
from flowsheet.evaluation.summaries import NOT_ESTIMABLE
from flowsheet.lifecycle.experiment import lock
from flowsheet.lifecycle.experiment.ablation.report import (
    AblationTable,
    make_section,
    make_terminal_table,
)
from flowsheet.lifecycle.experiment.evaluate import load_evidence
from flowsheet.lifecycle.experiment.folds import (
    AblationResults,
    ExperimentPlan,
    ExperimentResults,
    FoldSpec,
)
from flowsheet.lifecycle.experiment.model_runs import (
    name_ranking_metric,
    record_model,
    start_model_run,
)
from flowsheet.lifecycle.experiment.predictions import PREDICTIONS_TABLE, Predictions
from flowsheet.lifecycle.experiment.prepare import load_summary, open_extract
from flowsheet.lifecycle.experiment.report import load_study, report_path, write_report
from flowsheet.lifecycle.experiment.search_budget import list_weights
from flowsheet.lifecycle.experiment.train import TrialCallback, load_trials
from flowsheet.lifecycle.model_card.card import save_card
from flowsheet.state.erasures import use_records
from flowsheet.state.hashing import digest
from flowsheet.state.json_files import read_json
from flowsheet.tracking import model_registry
from flowsheet.tracking.datasets import DataSet
from flowsheet.tracking.experiments import models_page
from flowsheet.tracking.model_registry import CHAMPION
from flowsheet.tracking.packaging import log_model
from flowsheet.tracking.run_records import EXTRACT_STAGE
from flowsheet.tracking.runs import ParentRun, Tracker
from flowsheet.tracking.store import TrackerUnreachable
from flowsheet.typing import Progress

_TABLE_ROWS = 1000
"""Most held-out rows in the table of predictions that MLflow's page shows."""


class RunSummary(FrozenModel):
    """The result of an experiment, for the terminal and the Prefect page."""

    experiment: str
    run_id: str
    headline: str
    metrics: dict[str, dict[str, float]]
    """{model: {metric: value}}, as in MLflow; the best model first."""
    leaderboards: list[LeaderboardTable]
    """All rows, and new onsets where they are a part; what ranks the models comes first."""
    titles: dict[str, str] = Field(default_factory=dict)
    """{model: what people call it}"""
    markdown: str
    """The leaderboard as Markdown."""
    registered: list[str]
    """A line for each registered model version."""
    report: str
    """Path of the HTML report."""
    pages: dict[str, str] = Field(default_factory=dict)
    """{what: address} in the MLflow and Prefect pages."""
    reused: list[str]
    """Names of the stages that an earlier run had built."""
    excluded_models: dict[str, str] = Field(default_factory=dict)
    """Models that do not apply to the task, and why."""
    trials: dict[str, int] = Field(default_factory=dict)
    """{model, with the name of its fold: finished trials} of the models that were tuned."""

    def describe_trials(self) -> list[str]:
        """A line about the numbers of trials, if any model was tuned."""
        counts = [f"{name} {count}" for name, count in self.trials.items()]
        return [f"trials: {', '.join(counts)}"] if counts else []


def config_fingerprint(config: ExperimentConfig) -> str:
    """sha256 of all choices that affect the results; the data are not part of it."""
    return digest(config.model_dump(mode="json", exclude={"compute", "description"}))


def configuration_key(config: ExperimentConfig, model: str) -> str:
    """Digest of the choices that a model is trained with.

    The place of the records and the seed are no part of it: a version that is retrained every week
    has the same configuration, a quick test with fewer stays or epochs another one.
    """
    return digest(
        {
            "cohort": config.cohort.model_dump(mode="json", exclude={"name", "path"}),
            "task": config.task.model_dump(mode="json", exclude={"name"}),
            "features": config.features.model_dump(mode="json", exclude={"name"}),
            "model": config.models[model].model_dump(mode="json"),
            "tuning": config.tuning.model_dump(mode="json", exclude={"name"}),
        }
    )


def flow_run_tag(config: ExperimentConfig) -> str:
    """A tag for the experiment's Prefect flow runs."""
    return f"experiment: {config.name}"


@contextlib.contextmanager
def exclusive(config: ExperimentConfig, progress: Progress) -> Iterator[None]:
    """Lock the experiment, so that the same choices run once at a time.

    Before that, MLflow runs whose process was killed are closed. No subject is erased meanwhile.
    """
    lock.close_dead_runs()
    with use_records(), lock.exclusive(config_fingerprint(config), progress):
        yield


def experiment_key(config: ExperimentConfig, plan: ExperimentPlan) -> str:
    """The key of the experiment's MLflow run: equal keys, equal results."""
    return digest(
        {
            "name": config.name,
            "models": {name: plan.model_key(name) for name in config.models},
            "evaluation": config.evaluation.model_dump(mode="json"),
            "memory": config.memory.model_dump(mode="json") if config.memory else None,
            "registry": config.registry.model_dump(mode="json"),
            **({"ablation": config.ablation.model_dump(mode="json")} if config.ablation else {}),
        }
    )


def data_fingerprints(plan: ExperimentPlan) -> dict[str, str]:
    """MLflow parameters that identify the data behind the experiment's metrics."""
    data = plan.first_fold.data
    extract = open_extract(data.extract)
    return {
        "fingerprint.records": extract.manifest.source.input,
        "fingerprint.extract": extract.fingerprint,
        "fingerprint.windows": data.windows.key,
        "fingerprint.split": plan.split_fingerprint(),
    }


@contextlib.contextmanager
def track_experiment(
    config: ExperimentConfig, plan: ExperimentPlan, tags: Mapping[str, str]
) -> Iterator[ParentRun]:
    """The experiment's MLflow run; an error inside the block marks it as failed.

    ``tags`` are added to the run. Runs of the same experiment with other tags are separate runs.
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
        {**tags, EXTRACT_STAGE: data.extract.key},
        run_lock=lock.lock_tag(config_fingerprint(config)),
    )
    with _fail_on_error(tracker, parent.run_id):
        yield parent


@contextlib.contextmanager
def trial_recorder(fold: FoldSpec, run_id: str) -> Iterator[TrialCallback]:
    """A callback that records each finished trial below the run of :func:`start_fold_run`."""
    tracker = Tracker.open()
    with _fail_on_error(tracker, run_id):
        yield lambda trial: tracker.sync_trials(run_id, fold.config.tuning.metric, [trial])


@contextlib.contextmanager
def _fail_on_error(tracker: Tracker, run_id: str) -> Iterator[None]:
    """Mark a run as failed when the block raises; skipped when MLflow itself is unreachable."""
    try:
        yield
    except TrackerUnreachable:
        raise
    except BaseException as error:
        with contextlib.suppress(TrackerUnreachable):
            reason = f"{type(error).__name__}: {error}"
            tracker.fail(run_id, reason, killed=not isinstance(error, Exception))
        raise


def record_results(
    results: ExperimentResults, run: ParentRun, progress: Progress, sections: Sequence[Section] = ()
) -> RunSummary:
    """Record the evidence, register every model and finish the MLflow runs.

    A run that was finished by an earlier call is not recorded again.

    Args:
        results: the experiment's stages.
        run: the experiment's MLflow run.
        progress: called with a line for each registered version.
        sections: further sections of the report.
    """
    tracker = Tracker.open()
    evidence = load_evidence(results.evidence)
    html = report_path(results)
    if not (run.finished and html.is_file()):
        write_report(results, run.run_id, [*_list_ablation_sections(results), *sections])
    if results.ablation and not run.finished:
        _record_ablation(tracker, results.ablation, run.run_id)
    registered = []
    for name in results.models:
        model_run_id = start_model_run(tracker, results.plan, name, run.run_id)
        if not run.finished:
            record_model(
                tracker, results.plan, results.trained, name, run.run_id, evidence=evidence
            )
        if results.plan.final_refit:
            registered.append(_register(results, name, model_run_id, evidence))
            progress(registered[-1])
        if not run.finished:
            tracker.finish(model_run_id)
    if not run.finished:
        _record_evidence(tracker, results, run.run_id, html)
    return RunSummary(
        experiment=results.config.name,
        run_id=run.run_id,
        headline=evidence.headline,
        metrics={model: evidence.metrics(model) for model in evidence.models},
        leaderboards=[*list_leaderboard_tables(evidence), *_list_ablation_tables(results)],
        titles=evidence.titles,
        markdown=render_leaderboard_markdown(evidence),
        registered=registered,
        report=str(html),
        pages={"models": models_page(run.experiment_id)},
        reused=[name for name, stage in results.stages.items() if stage.reused],
        excluded_models=results.excluded_models,
        trials=_count_trials(results),
    )


def _count_trials(results: ExperimentResults) -> dict[str, int]:
    tuned = list_weights(results.config)
    return {
        f"{name}{fold.label}": len(load_trials(results.trained[fold.name][name]))
        for fold in results.plan.all_folds
        for name in results.models
        if name in tuned
    }


def _list_ablation_sections(results: ExperimentResults) -> list[Section]:
    models = load_evidence(results.evidence).models
    return [make_section(results.ablation, models)] if results.ablation else []


def _list_ablation_tables(results: ExperimentResults) -> list[LeaderboardTable]:
    return [make_terminal_table(results.ablation)] if results.ablation else []


def _record_ablation(tracker: Tracker, ablation: AblationResults, run_id: str) -> None:
    """Log the ablated models like the others, and the table of what the models read."""
    evidence = load_evidence(ablation.evidence)
    plan = ablation.plan.plan
    if plan:
        for name in ablation.trained[plan.first_fold.name]:
            record_model(tracker, plan, ablation.trained, name, run_id, evidence=evidence)
            tracker.finish(start_model_run(tracker, plan, name, run_id))
    table = AblationTable.load(ablation).to_frame()
    tracker.log_table(run_id, table.to_dict(as_series=False), "ablation/ablation.json")


def _register(results: ExperimentResults, name: str, model_run_id: str, evidence: Evidence) -> str:
    """Register the model of the final refit; returns a line that names the version."""
    config = results.config
    fold = results.plan.final_refit
    assert fold
    stage = results.trained[fold.name][name]
    metrics = _select_values(evidence.metrics(name))
    params = read_json(stage.folder / "tuning.json")["params"]
    uri = log_model(
        model_run_id,
        stage.folder / "model_package",
        name,
        metrics=metrics,
        data=_held_out_data(results),
        params={"model": name, **{f"model.{param}": value for param, value in params.items()}},
    )
    registered_name = f"{config.registry.prefix or config.name}-{name}"
    description = (
        f"{config.description} {_describe_value(metrics, evidence)}\n\n"
        f"To serve it, run `flowsheet promote {registered_name}`: the alias `{CHAMPION}` moves to "
        "a version that passes the gates. An alias that is set on this page passes none."
    )
    version = model_registry.register(
        registered_name,
        model_run_id,
        uri,
        stage.key,
        description=description,
        tags={model_registry.CONFIGURATION: configuration_key(fold.config, name)},
    )
    why_not_challenger = model_registry.propose_challenger(registered_name, version)
    manifest = open_extract(fold.data.extract).manifest
    save_card(registered_name, version, evidence, manifest, load_study(results))
    remark = f" ({why_not_challenger})" if why_not_challenger else ""
    return f"registered {registered_name} version {version}{remark}"


def _held_out_data(results: ExperimentResults) -> DataSet:
    """The held-out subjects, on whom the test metrics are computed."""
    config = results.config
    extract = open_extract(results.plan.first_fold.data.extract).fingerprint
    key = digest([extract, results.plan.split_fingerprint()])
    return DataSet(f"{config.cohort.name}, held out", key, config.cohort.source, context="test")


def _record_evidence(tracker: Tracker, results: ExperimentResults, run_id: str, html: Path) -> None:
    evidence = load_evidence(results.evidence)
    best = evidence.models[0]
    best_metrics = {
        name.replace("test.", "best."): value
        for name, value in _select_values(evidence.metrics(best)).items()
    }
    tracker.log(run_id, metrics=best_metrics, tags={"flowsheet.best": best})
    tracker.log_artifacts(run_id, results.evidence.folder, "evidence")
    table = Predictions.load(results.evidence.folder).to_table(_TABLE_ROWS)
    tracker.log_table(run_id, table, f"evidence/{PREDICTIONS_TABLE}")
    if results.memory:
        tracker.log_artifacts(run_id, results.memory.folder, "memory")
    tracker.log_artifacts(run_id, html.parent, "report")
    ranking = render_leaderboard_markdown(evidence, max_tables=1)
    tracker.set_description(run_id, f"{results.config.description}\n\n{ranking}")
    tracker.close_child_runs(run_id)
    tracker.finish(run_id)


def _select_values(metrics: Mapping[str, float]) -> dict[str, float]:
    """``test.auroc``, ``test.new_onsets.auroc``: no limits of intervals, no other subsets."""
    return {
        name: value
        for name, value in metrics.items()
        if name.removeprefix("test.").removeprefix(f"{NEW_ONSETS}.").count(".") == 0
    }


def _describe_value(metrics: Mapping[str, float], evidence: Evidence) -> str:
    """The value of the ranking metric on the rows that rank the models, in a sentence."""
    metric, subset = evidence.about["metric"], evidence.ranking_subset
    value = metrics.get(name_ranking_metric(evidence))
    estimate = NOT_ESTIMABLE if value is None else f"{value:.3f}"
    phrase = describe_subset(subset, evidence.words)
    return f"{get_metric(metric).label} {estimate}{phrase} on held-out subjects."
