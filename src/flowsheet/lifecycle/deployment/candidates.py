"""What recorded models said of the same held-out rows, put side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flowsheet.errors import CheckFailed, UsageError
from flowsheet.lifecycle.experiment.predictions import Predictions
from flowsheet.tracking.run_records import RunRecord, load_run_record


@dataclass(frozen=True)
class Candidate:
    """One reference's models and what they said of the held-out rows."""

    record: RunRecord
    predictions: Predictions


def load_candidate(reference: str, folder: Path) -> Candidate:
    """The models that a reference means; files go to ``folder``, which is made.

    Raises:
        UsageError: there is no such run or version.
        CheckFailed: the run keeps no predictions of them.
    """
    folder.mkdir()
    record = load_run_record(reference, folder)
    held = Predictions.load(record.download_artifacts("evidence", folder))
    missing = [model for model in record.models if model not in held.models]
    kept = {model: model for model in record.models if model in held.models}
    if not kept:
        raise CheckFailed(
            f"the run keeps no predictions of {', '.join(missing)}",
            where=f"run {record.run_id}",
            todo="the model was left out of its experiment: see the run's report",
        )
    return Candidate(record, held.select_models(kept))


def check_comparable(first: Candidate, other: Candidate) -> None:
    """Refuse to compare answers to different questions.

    Raises:
        CheckFailed: task or rows differ; says in what.
    """
    where = f"run {first.record.run_id} and run {other.record.run_id}"
    tasks = [
        {k: v for k, v in each.record.config["task"].items() if k != "name"}
        for each in (first, other)
    ]
    differing = [key for key in tasks[0] if tasks[0][key] != tasks[1].get(key)]
    if differing:
        said = "; ".join(
            f"task.{key} is {tasks[0][key]} and {tasks[1].get(key)}" for key in differing
        )
        raise CheckFailed(f"the tasks differ: {said}", where=where, todo="compare runs of one task")
    if first.predictions.targets_fingerprint() != other.predictions.targets_fingerprint():
        raise CheckFailed(
            f"the held-out rows differ: {'; '.join(_row_differences(first.predictions, other.predictions))}",
            where=where,
            todo="compare runs with the same cohort, evaluation and seed: see fingerprint.* of the runs",
        )


def _row_differences(a: Predictions, b: Predictions) -> list[str]:
    ours, theirs = a.targets(), b.targets()
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


def concat_models(contenders: Sequence[Candidate]) -> Predictions:
    """All models of contenders that agree, under names that tell them apart.

    Raises:
        UsageError: there is one model only, or one of them twice.
    """
    counted = Counter(model for each in contenders for model in each.predictions.models)
    if sum(counted.values()) < 2:
        raise UsageError(
            "there is one model only", todo="name another run, or an experiment with several models"
        )
    renamed = [
        each.predictions.select_models(
            {
                m: m if counted[m] == 1 else f"{m} ({each.record.label})"
                for m in each.predictions.models
            }
        )
        for each in contenders
    ]
    names = [name for each in renamed for name in each.models]
    twice = [name for name, n in Counter(names).items() if n > 1]
    if twice:
        raise UsageError(f"{', '.join(twice)} is named twice", todo="name each run once")
    joined = renamed[0]
    for each in renamed[1:]:
        joined = joined.join_models(each)
    return joined
