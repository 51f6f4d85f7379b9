"""Recorded models with their held-out predictions, and whether these can be compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from flowsheet.errors import CheckFailed, UsageError
from flowsheet.lifecycle.experiment.predictions import Predictions
from flowsheet.tracking.run_records import RunRecord, load_run_record

_KEYS = ["repeat", "fold", "stay_id", "step"]
_TARGETS = ("y", "scored", "in_state", "before_treatment", "weight")


@dataclass(frozen=True)
class Candidate:
    """The models of one run or registered version, with their held-out predictions."""

    record: RunRecord
    predictions: Predictions


def load_candidate(reference: str, folder: Path) -> Candidate:
    """Load the models of a run or registered version with their predictions.

    Args:
        reference: a run id, ``NAME/VERSION`` or ``NAME@ALIAS``.
        folder: folder for downloaded files, which is created.

    Raises:
        UsageError: there is no such run or version.
        CheckFailed: the run has no predictions of these models.
    """
    folder.mkdir()
    record = load_run_record(reference, folder)
    predictions = Predictions.load(record.download_artifacts("evidence", folder))
    available = [model for model in record.models if model in predictions.models]
    if not available:
        raise CheckFailed(
            f"the run has no predictions of {', '.join(record.models)}",
            where=f"run {record.run_id}",
            todo="see the run's report for the reason why the model was excluded",
        )
    return Candidate(record, predictions.select_models({model: model for model in available}))


def check_comparable(first: Candidate, second: Candidate) -> None:
    """Check that two candidates have the same task and the same held-out rows.

    Raises:
        CheckFailed: task or rows differ; the message lists the differences.
    """
    where = f"run {first.record.run_id} and run {second.record.run_id}"
    task_differences = list(_find_task_differences(first, second))
    if task_differences:
        raise CheckFailed(
            f"the tasks differ: {'; '.join(task_differences)}",
            where=where,
            todo="compare runs of the same task",
        )
    if first.predictions.targets_fingerprint() != second.predictions.targets_fingerprint():
        row_differences = _find_row_differences(first.predictions, second.predictions)
        raise CheckFailed(
            f"the held-out rows differ: {'; '.join(row_differences)}",
            where=where,
            todo="compare runs with the same cohort, evaluation and seed; "
            "see the parameters fingerprint.* of the runs",
        )


def concat_models(candidates: Sequence[Candidate]) -> Predictions:
    """The predictions of all models in one table; models of the same name get their run's label.

    Raises:
        UsageError: there is only one model, or one model is given twice.
    """
    counts = Counter(model for candidate in candidates for model in candidate.predictions.models)
    if sum(counts.values()) < 2:
        raise UsageError(
            "there is only one model", todo="add another run, or an experiment with several models"
        )
    labelled = [_label_models(candidate, counts) for candidate in candidates]
    names = Counter(name for predictions in labelled for name in predictions.models)
    duplicates = [name for name, count in names.items() if count > 1]
    if duplicates:
        raise UsageError(f"{', '.join(duplicates)} is given twice", todo="give each run once")
    joined, *others = labelled
    for predictions in others:
        joined = joined.join_models(predictions)
    return joined


def _label_models(candidate: Candidate, counts: Counter[str]) -> Predictions:
    """The candidate's predictions; models that ``counts`` has several times are renamed."""
    label = candidate.record.label
    names = {
        model: model if counts[model] == 1 else f"{model} ({label})"
        for model in candidate.predictions.models
    }
    return candidate.predictions.select_models(names)


def _find_task_differences(first: Candidate, second: Candidate) -> Iterator[str]:
    first_task, second_task = first.record.config["task"], second.record.config["task"]
    for key, value in first_task.items():
        other = second_task.get(key)
        if key != "name" and value != other:
            yield f"task.{key} is {value} and {other}"


def _find_row_differences(first: Predictions, second: Predictions) -> list[str]:
    first_rows, second_rows = first.targets(), second.targets()
    first_subjects = set(first_rows["subject_id"].to_list())
    second_subjects = set(second_rows["subject_id"].to_list())
    differences = []
    if only_first := first_subjects - second_subjects:
        differences.append(f"{len(only_first):,} subjects only in the first")
    if only_second := second_subjects - first_subjects:
        differences.append(f"{len(only_second):,} subjects only in the second")
    common = first_rows.join(second_rows, on=_KEYS, suffix=".second")
    if common.height < max(first_rows.height, second_rows.height):
        differences.append(
            f"{first_rows.height:,} and {second_rows.height:,} rows, {common.height:,} in common"
        )
    for column in _TARGETS:
        changed = int((common[column] != common[f"{column}.second"]).sum())
        if changed:
            differences.append(f"{column} differs in {changed:,} rows")
    return differences or ["the order of rows"]
