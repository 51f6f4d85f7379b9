"""Compare models of finished runs on their common held-out rows, or on today's.

(:mod:`flowsheet.lifecycle.experiment.evaluate` evaluates the models of one experiment while it
runs.)
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import yaml

from flowsheet.config import EvaluationConfig, TaskConfig
from flowsheet.evaluation.evidence import Evidence
from flowsheet.evaluation.metrics import get_metric
from flowsheet.evaluation.report import ReportData, render
from flowsheet.evaluation.report.data import describe_task
from flowsheet.lifecycle.deployment.candidates import (
    Candidate,
    ComparedModels,
    check_same_task,
    concat_models,
    has_same_rows,
    join_titles,
    keep_common_rows,
    load_candidate,
)
from flowsheet.lifecycle.deployment.todays_rows import score_todays_rows
from flowsheet.lifecycle.experiment.evaluate import VERSION, evaluate_predictions
from flowsheet.lifecycle.experiment.predictions import Predictions
from flowsheet.lifecycle.experiment.stage import Stage, run_stage
from flowsheet.state.hashing import digest
from flowsheet.state.store import Store
from flowsheet.timestamps import local_now_text
from flowsheet.tracking.run_records import RunRecord
from flowsheet.tracking.runs import Tracker
from flowsheet.typing import Progress

EXPERIMENT = "comparisons"
"""MLflow experiment of the comparisons."""
Rows = Literal["common", "today"]
"""On which rows models are compared."""


@dataclass(frozen=True)
class ModelComparison:
    """Result of a comparison."""

    evidence: Evidence
    report: Path
    run_id: str
    rows: str
    """The rows that they are compared on, in words."""


def compare_runs(
    references: Sequence[str],
    metric: str | None = None,
    *,
    on: Rows = "common",
    progress: Progress = lambda line: None,
) -> ModelComparison:
    """Compare the models of several runs or registered versions.

    All must have the same task. With ``on="common"`` their recorded predictions are compared: where
    their held-out rows differ, as after new records, on the stays that all of them held out. With
    ``on="today"`` all of them score the rows that are held out of today's records.

    Args:
        references: run ids, ``NAME/VERSION`` or ``NAME@ALIAS``; of an experiment's run all models
            are compared.
        metric: order of the leaderboard; by default that of the first run's experiment.
        on: the rows.
        progress: receives lines about the progress.

    Raises:
        UsageError: there is no such run, or nothing to compare.
        CheckFailed: the tasks differ, no row is common, a run has no predictions, or a model was
            developed on a subject that is held out today.
    """
    if metric:
        get_metric(metric)
    if on == "today":
        compared = score_todays_rows(references, progress)
    else:
        compared = _load_common_rows(references)
    first = compared.records[0]
    evaluation = first.read_config("evaluation", EvaluationConfig)
    if metric:
        evaluation = evaluation.model_copy(update={"metric": metric})
    task = first.read_config("task", TaskConfig)
    stage = _evaluate(
        compared.predictions,
        task,
        evaluation,
        seed=int(first.config["seed"]),
        titles=compared.titles,
    )
    evidence = Evidence.load(stage.folder)
    report = _write_report(evidence, compared, stage)
    run_id = _record_run(evidence, compared.records, stage, report)
    return ModelComparison(evidence, report, run_id, compared.rows)


def _load_common_rows(references: Sequence[str]) -> ComparedModels:
    """The recorded predictions of all models for the rows on which all were tested."""
    with tempfile.TemporaryDirectory() as temporary:
        candidates = [
            load_candidate(reference, Path(temporary) / str(i))
            for i, reference in enumerate(references)
        ]
    for candidate in candidates[1:]:
        check_same_task(candidates[0], candidate)
    candidates, rows = _keep_common_rows(candidates)
    return ComparedModels(
        predictions=concat_models(candidates),
        records=[candidate.record for candidate in candidates],
        rows=rows,
        titles=join_titles(candidates),
    )


def _keep_common_rows(candidates: list[Candidate]) -> tuple[list[Candidate], str]:
    """The candidates with the rows on which all were tested, and these in words."""
    first, *others = candidates
    if all(has_same_rows(first, other) for other in others):
        return candidates, f"the same {first.predictions.rows.height:,} held-out rows"
    common = keep_common_rows([candidate.predictions for candidate in candidates])
    kept = zip(candidates, common.predictions, strict=True)
    return [replace(candidate, predictions=p) for candidate, p in kept], common.summary


def _evaluate(
    predictions: Predictions,
    task: TaskConfig,
    evaluation: EvaluationConfig,
    *,
    seed: int,
    titles: dict[str, str],
) -> Stage:
    """The stage with predictions and evidence."""
    key = digest(
        {
            "version": VERSION,
            "targets": predictions.targets_fingerprint(),
            "probabilities": predictions.probabilities_fingerprint(),
            "policies": [
                {model: policy.model_dump(mode="json") for model, policy in fold.policies.items()}
                for fold in predictions.folds
            ],
            "evaluation": evaluation.model_dump(mode="json", exclude={"name"}),
            "seed": seed,
            "titles": titles,
        }
    )

    def make(folder: Path) -> None:
        predictions.save(folder)
        evaluate_predictions(predictions, task, evaluation, seed, titles).save(folder)

    return run_stage("comparison", key, make)


def _write_report(evidence: Evidence, compared: ComparedModels, stage: Stage) -> Path:
    first = compared.records[0]
    runs = {
        record.label: f"{record.experiment}, run {record.run_id}" for record in compared.records
    }
    page = render(
        ReportData(
            title="comparison",
            evidence=evidence,
            question=describe_task(first.read_config("task", TaskConfig)),
            description=f"Models of finished runs, compared on {compared.rows}.",
            record={"Runs": runs, "Fingerprints": dict(first.fingerprints)},
            config_yaml=yaml.safe_dump(dict(first.config), sort_keys=False, allow_unicode=True),
            created_at=local_now_text(),
        )
    )
    folder = Store.open().path("report", stage.key)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "report.html"
    file.write_text(page, encoding="utf-8")
    return file


def _record_run(
    evidence: Evidence, records: Sequence[RunRecord], stage: Stage, report: Path
) -> str:
    """Record the comparison in MLflow; returns the id of its run."""
    tracker = Tracker.open()
    compared = {record.run_id: record.experiment for record in records}
    run = tracker.start_comparison_run(EXPERIMENT, stage.key, compared)
    if run.finished:
        return run.run_id
    for model in evidence.models:
        model_run = tracker.start_model_run(run.run_id, model, digest([stage.key, model]))
        tracker.log(model_run, metrics=evidence.metrics(model))
        tracker.finish(model_run)
    tracker.log(run.run_id, tags={"flowsheet.best": evidence.models[0]})
    tracker.log_artifacts(run.run_id, stage.folder, "evidence")
    tracker.log_artifacts(run.run_id, report.parent, "report")
    tracker.set_description(run.run_id, evidence.headline)
    tracker.finish(run.run_id)
    return run.run_id
