"""Models of runs that exist already, compared on the rows that all of them were tested on."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from flowsheet.config import EvaluationConfig, TaskConfig
from flowsheet.evaluation.evidence import Evidence
from flowsheet.evaluation.metrics import METRICS
from flowsheet.evaluation.report import ReportData, render
from flowsheet.evaluation.report.data import describe_task
from flowsheet.lifecycle.deployment.candidates import (
    Candidate,
    check_comparable,
    concat_models,
    load_candidate,
)
from flowsheet.lifecycle.experiment.evaluate import VERSION, evaluate_predictions
from flowsheet.lifecycle.experiment.predictions import Predictions
from flowsheet.lifecycle.experiment.stage import Stage, run_stage
from flowsheet.state.hashing import digest
from flowsheet.state.store import Store
from flowsheet.timestamps import local_now_text
from flowsheet.tracking.runs import Tracker

EXPERIMENT = "comparisons"
"""Where MLflow keeps them."""


@dataclass(frozen=True)
class Comparison:
    """What comparing came to."""

    evidence: Evidence
    report: Path
    run_id: str


def compare_runs(references: Sequence[str], metric: str | None = None) -> Comparison:
    """Compare the models of some runs or registered versions; all must have been asked the same of
    the same rows.

    Args:
        references: run ids, ``NAME/VERSION`` or ``NAME@ALIAS``; of a whole experiment all models
        compete. metric: the leaderboard's order; by default that of the first run's experiment.

    Raises:
        UsageError: there is no such run, or nothing to compare.
        CheckFailed: task or rows differ (says in what), or a run has no predictions.
    """
    if metric:
        METRICS.get(metric)
    with tempfile.TemporaryDirectory() as folder:
        contenders = [
            load_candidate(reference, Path(folder) / str(i))
            for i, reference in enumerate(references)
        ]
    for other in contenders[1:]:
        check_comparable(contenders[0], other)
    joined = concat_models(contenders)
    first = contenders[0].record
    evaluation = EvaluationConfig.model_validate(first.config["evaluation"])
    evaluation = evaluation.model_copy(update={"metric": metric or evaluation.metric})
    made = _judged(
        joined,
        TaskConfig.model_validate(first.config["task"]),
        evaluation,
        int(first.config["seed"]),
    )
    evidence = Evidence.load(made.folder)
    report = _report(evidence, contenders, made)
    return Comparison(evidence, report, _tracked(evidence, contenders, made, report))


def _judged(
    joined: Predictions, task: TaskConfig, evaluation: EvaluationConfig, seed: int
) -> Stage:
    key = digest(
        {
            "version": VERSION,
            "truth": joined.targets_fingerprint(),
            "said": joined.probabilities_fingerprint(),
            "thresholds": [fold.thresholds for fold in joined.folds],
            "evaluation": evaluation.model_dump(mode="json", exclude={"name"}),
            "seed": seed,
        }
    )

    def make(folder: Path) -> None:
        joined.save(folder)
        evaluate_predictions(joined, task, evaluation, seed).save(folder)

    return run_stage("comparison", key, make)


def _report(evidence: Evidence, contenders: Sequence[Candidate], made: Stage) -> Path:
    first = contenders[0].record
    runs = {
        each.record.label: f"{each.record.experiment}, run {each.record.run_id}"
        for each in contenders
    }
    page = render(
        ReportData(
            title="comparison",
            evidence=evidence,
            question=describe_task(TaskConfig.model_validate(first.config["task"])),
            description="Models of runs that existed already, on the rows that all of them were tested on.",
            record={"Runs": runs, "Fingerprints": dict(first.fingerprints)},
            config_yaml=yaml.safe_dump(dict(first.config), sort_keys=False, allow_unicode=True),
            created_at=local_now_text(),
        )
    )
    folder = Store.open().path("report", made.key)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.html").write_text(page)
    return folder / "report.html"


def _tracked(evidence: Evidence, contenders: Sequence[Candidate], made: Stage, report: Path) -> str:
    tracker = Tracker.open()
    compared = {each.record.run_id: each.record.experiment for each in contenders}
    run = tracker.start_comparison_run(EXPERIMENT, made.key, compared)
    if not run.finished:
        for model in evidence.models:
            child = tracker.start_model_run(run.run_id, model, digest([made.key, model]))
            tracker.log(child, metrics=evidence.metrics(model))
            tracker.finish(child)
        tracker.log(run.run_id, tags={"flowsheet.best": evidence.models[0]})
        tracker.log_artifacts(run.run_id, made.folder, "evidence")
        tracker.log_artifacts(run.run_id, report.parent, "report")
        tracker.set_description(run.run_id, evidence.headline)
        tracker.finish(run.run_id)
    return run.run_id
