"""Models of runs that exist already, compared on the rows that all of them were tested on."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import yaml

from flowsheet.config import EvaluationConfig, TaskConfig
from flowsheet.errors import CheckFailed, UsageError
from flowsheet.evaluation.evidence import Evidence
from flowsheet.evaluation.metrics import METRICS
from flowsheet.evaluation.report import ReportData, render
from flowsheet.evaluation.report.data import question
from flowsheet.home import Store, digest
from flowsheet.lifecycle.compare import VERSION, judge
from flowsheet.lifecycle.predictions import Predictions
from flowsheet.lifecycle.stage import Stage, stage
from flowsheet.tracking.archive import Recorded, recorded
from flowsheet.tracking.runs import Tracker

EXPERIMENT = "comparisons"
"""Where MLflow keeps them."""


@dataclass(frozen=True)
class Contender:
    """One reference's models and what they said of the held-out rows."""

    record: Recorded
    predictions: Predictions


@dataclass(frozen=True)
class Comparison:
    """What comparing came to."""

    evidence: Evidence
    report: Path
    run_id: str


def compare_runs(references: Sequence[str], metric: str | None = None) -> Comparison:
    """Compare the models of some runs or registered versions; all must have been asked the same of the same rows.

    Args:
        references: run ids, ``NAME/VERSION`` or ``NAME@ALIAS``; of a whole experiment all models compete.
        metric: the leaderboard's order; by default that of the first run's experiment.

    Raises:
        UsageError: there is no such run, or nothing to compare.
        CheckFailed: task or rows differ (says in what), or a run has no predictions.
    """
    if metric:
        METRICS.get(metric)
    with tempfile.TemporaryDirectory() as folder:
        contenders = [_contender(reference, Path(folder) / str(i)) for i, reference in enumerate(references)]
    for other in contenders[1:]:
        _must_agree(contenders[0], other)
    joined = _joined(contenders)
    first = contenders[0].record
    evaluation = EvaluationConfig.model_validate(first.config["evaluation"])
    evaluation = evaluation.model_copy(update={"metric": metric or evaluation.metric})
    made = _judged(joined, TaskConfig.model_validate(first.config["task"]), evaluation, int(first.config["seed"]))
    evidence = Evidence.load(made.folder)
    report = _report(evidence, contenders, made)
    return Comparison(evidence, report, _tracked(evidence, contenders, made, report))


def _contender(reference: str, folder: Path) -> Contender:
    folder.mkdir()
    record = recorded(reference, folder)
    held = Predictions.load(record.folder("evidence", folder))
    missing = [model for model in record.models if model not in held.models]
    kept = {model: model for model in record.models if model in held.models}
    if not kept:
        raise CheckFailed(
            f"the run keeps no predictions of {', '.join(missing)}",
            where=f"run {record.run_id}",
            todo="the model was left out of its experiment: see the run's report",
        )
    return Contender(record, held.renamed(kept))


def _must_agree(first: Contender, other: Contender) -> None:
    """Refuse to compare answers to different questions."""
    where = f"run {first.record.run_id} and run {other.record.run_id}"
    tasks = [{k: v for k, v in each.record.config["task"].items() if k != "name"} for each in (first, other)]
    differing = [key for key in tasks[0] if tasks[0][key] != tasks[1].get(key)]
    if differing:
        said = "; ".join(f"task.{key} is {tasks[0][key]} and {tasks[1].get(key)}" for key in differing)
        raise CheckFailed(f"the tasks differ: {said}", where=where, todo="compare runs of one task")
    if first.predictions.fingerprint() != other.predictions.fingerprint():
        raise CheckFailed(
            f"the held-out rows differ: {'; '.join(_row_differences(first.predictions, other.predictions))}",
            where=where,
            todo="compare runs with the same cohort, evaluation and seed: see fingerprint.* of the runs",
        )


def _row_differences(a: Predictions, b: Predictions) -> list[str]:
    ours, theirs = a.truth(), b.truth()
    found = []
    for name, one, other in (("first", ours, theirs), ("second", theirs, ours)):
        alone = set(one["subject_id"].to_list()) - set(other["subject_id"].to_list())
        if alone:
            found.append(f"{len(alone):,} subjects only in the {name}")
    keys = ["repeat", "fold", "stay_id", "step"]
    common = ours.join(theirs, on=keys, suffix=".other")
    if common.height < max(ours.height, theirs.height):
        found.append(f"{ours.height:,} and {theirs.height:,} rows, {common.height:,} in common")
    for column in ("y", "scored", "in_state"):
        changed = int((common[column] != common[f"{column}.other"]).sum())
        if changed:
            found.append(f"{column} differs in {changed:,} rows")
    return found or ["the order of rows"]


def _joined(contenders: Sequence[Contender]) -> Predictions:
    """All models side by side, under names that tell them apart."""
    counted = Counter(model for each in contenders for model in each.predictions.models)
    if sum(counted.values()) < 2:
        raise UsageError("there is one model only", todo="name another run, or an experiment with several models")
    renamed = [
        each.predictions.renamed(
            {m: m if counted[m] == 1 else f"{m} ({each.record.label})" for m in each.predictions.models}
        )
        for each in contenders
    ]
    names = [name for each in renamed for name in each.models]
    twice = [name for name, n in Counter(names).items() if n > 1]
    if twice:
        raise UsageError(f"{', '.join(twice)} is named twice", todo="name each run once")
    joined = renamed[0]
    for each in renamed[1:]:
        joined = joined.beside(each)
    return joined


def _judged(joined: Predictions, task: TaskConfig, evaluation: EvaluationConfig, seed: int) -> Stage:
    key = digest(
        {
            "version": VERSION,
            "truth": joined.fingerprint(),
            "said": joined.said_fingerprint(),
            "thresholds": [fold.thresholds for fold in joined.folds],
            "evaluation": evaluation.model_dump(mode="json", exclude={"name"}),
            "seed": seed,
        }
    )

    def make(folder: Path) -> None:
        joined.save(folder)
        judge(joined, task, evaluation, seed).save(folder)

    return stage("comparison", key, make)


def _report(evidence: Evidence, contenders: Sequence[Contender], made: Stage) -> Path:
    first = contenders[0].record
    runs = {each.record.label: f"{each.record.experiment}, run {each.record.run_id}" for each in contenders}
    page = render(
        ReportData(
            title="comparison",
            evidence=evidence,
            question=question(TaskConfig.model_validate(first.config["task"])),
            description="Models of runs that existed already, on the rows that all of them were tested on.",
            record={"Runs": runs, "Fingerprints": dict(first.fingerprints)},
            config_yaml=yaml.safe_dump(dict(first.config), sort_keys=False, allow_unicode=True),
            made_at=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        )
    )
    folder = Store.open().path("report", made.key)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.html").write_text(page)
    return folder / "report.html"


def _tracked(evidence: Evidence, contenders: Sequence[Contender], made: Stage, report: Path) -> str:
    tracker = Tracker.open()
    compared = {each.record.run_id: each.record.experiment for each in contenders}
    run = tracker.comparison(EXPERIMENT, made.key, compared)
    if not run.finished:
        for model in evidence.models:
            child = tracker.model_run(run.run_id, model, digest([made.key, model]))
            tracker.log(child, metrics=evidence.metrics(model))
            tracker.finish(child)
        tracker.log(run.run_id, tags={"flowsheet.best": evidence.models[0]})
        tracker.log_folder(run.run_id, made.folder, "evidence")
        tracker.log_folder(run.run_id, report.parent, "report")
        tracker.describe(run.run_id, evidence.headline)
        tracker.finish(run.run_id)
    return run.run_id
