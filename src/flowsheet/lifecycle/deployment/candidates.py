"""Recorded models with their held-out predictions, and whether these can be compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl

from flowsheet.errors import CheckFailed, UsageError
from flowsheet.evaluation.evidence import read_titles
from flowsheet.lifecycle.experiment.predictions import Predictions
from flowsheet.tracking.run_records import RunRecord, load_run_record

_KEYS = ["repeat", "fold", "stay_id", "step"]
_OUTCOMES = ("y", "scored", "in_state", "before_treatment")
_MAX_CHANGED_SHARE = 0.1
"""Of the stays that all runs held out, the largest share that may be left out as changed."""
_TARGETS = (*_OUTCOMES, "weight")


@dataclass(frozen=True)
class Candidate:
    """The models of one run or registered version, with their held-out predictions."""

    record: RunRecord
    predictions: Predictions
    titles: Mapping[str, str] = field(default_factory=dict)
    """By model what people call it."""


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
    evidence = record.download_artifacts("evidence", folder)
    predictions = Predictions.load(evidence)
    available = [model for model in record.models if model in predictions.models]
    if not available:
        raise CheckFailed(
            f"the run has no predictions of {', '.join(record.models)}",
            where=f"run {record.run_id}",
            todo="see the run's report for the reason why the model was excluded",
        )
    selected = predictions.select_models({model: model for model in available})
    return Candidate(record, selected, read_titles(evidence))


@dataclass(frozen=True)
class ComparedModels:
    """The predictions of all compared models for the same rows."""

    predictions: Predictions
    records: list[RunRecord]
    """Of the models' experiments, in the order in which they were given."""
    rows: str
    """The rows, in words."""
    titles: dict[str, str]
    """By model what people call it."""


@dataclass(frozen=True)
class CommonRows:
    """The predictions of several runs for the rows on which all of them were tested."""

    predictions: list[Predictions]
    summary: str


def keep_common_rows(all_predictions: Sequence[Predictions]) -> CommonRows:
    """Keep the stays on which all runs were tested in the same fold, with the same outcomes.

    So stays that came later, or whose records have changed since, are left out as a whole. Where
    rows have weights, those of the first run are used.

    Raises:
        CheckFailed: there is no such stay, or too many have changed.
    """
    first, *others = all_predictions
    stays = [_list_stays(predictions) for predictions in all_predictions]
    common, held_out_by_all = stays[0], stays[0]
    for other in stays[1:]:
        common = common.join(other, on=common.columns, how="inner")
        held_out_by_all = held_out_by_all.join(other, on="stay_id", how="semi")
    n_changed = held_out_by_all["stay_id"].n_unique() - common["stay_id"].n_unique()
    n_repeats = len({fold.id.repeat for fold in first.folds})
    in_all = common.group_by("subject_id").agg(pl.col("repeat").n_unique())
    subjects = in_all.filter(repeat=n_repeats)["subject_id"]
    common = common.filter(pl.col("subject_id").is_in(subjects.to_list()))
    # leaving out many stays whose outcome has changed would select rows by their outcome
    is_other_data = n_changed > _MAX_CHANGED_SHARE * held_out_by_all["stay_id"].n_unique()
    if common.is_empty() or is_other_data:
        differences = [d for other in others for d in _find_row_differences(first, other)]
        raise CheckFailed(
            f"the held-out rows differ: {'; '.join(dict.fromkeys(differences))}",
            where="the runs' held-out rows",
            todo="compare runs on the same records, or on records that grew, with the same "
            "evaluation and seed; see the parameters fingerprint.* of the runs",
        )
    stays = common["stay_id"].unique().to_list()
    kept = [p.keep_rows(pl.col("stay_id").is_in(stays)) for p in all_predictions]
    weight = kept[0].rows["weight"]
    kept = [replace(p, rows=p.rows.with_columns(weight)) for p in kept]
    left_out = ", ".join(
        f"{p.rows.height - k.rows.height:,} of {p.rows.height:,}"
        for p, k in zip(all_predictions, kept, strict=True)
    )
    n_subjects = kept[0].rows["subject_id"].n_unique()
    return CommonRows(
        kept,
        f"the {kept[0].rows.height:,} rows of {n_subjects:,} subjects in common (rows left out: "
        f"{left_out})",
    )


def check_same_task(first: Candidate, second: Candidate) -> None:
    """Check that two candidates have the same task.

    Raises:
        CheckFailed: the tasks differ; the message lists the differences.
    """
    where = f"run {first.record.run_id} and run {second.record.run_id}"
    task_differences = list(_find_task_differences(first, second))
    if task_differences:
        raise CheckFailed(
            f"the tasks differ: {'; '.join(task_differences)}",
            where=where,
            todo="compare runs of the same task",
        )


def has_same_rows(first: Candidate, second: Candidate) -> bool:
    """Whether both were tested on the same rows with the same outcomes."""
    fingerprints = [c.predictions.targets_fingerprint() for c in (first, second)]
    return fingerprints[0] == fingerprints[1]


def _list_stays(predictions: Predictions) -> pl.DataFrame:
    """The stays of each repetition, with their fold and a digest of their outcomes."""
    outcomes = pl.struct("step", *_OUTCOMES).hash().sum()
    stays = predictions.rows.group_by(
        "repeat", "fold", "subject_id", "stay_id", maintain_order=True
    )
    return stays.agg(rows=pl.len(), outcomes=outcomes)


def join_titles(candidates: Sequence[Candidate]) -> dict[str, str]:
    """By model, under the name of :func:`concat_models`, what people call it."""
    counts = _count_names(candidates)
    return {
        name: name.replace(model, candidate.titles.get(model, model), 1)
        for candidate in candidates
        for model, name in _label_names(candidate, counts).items()
    }


def concat_models(candidates: Sequence[Candidate]) -> Predictions:
    """The predictions of all models in one table; models of the same name get their run's label.

    Raises:
        UsageError: there is only one model, or one model is given twice.
    """
    counts = _count_names(candidates)
    if sum(counts.values()) < 2:
        raise UsageError(
            "there is only one model", todo="add another run, or an experiment with several models"
        )
    labelled = [c.predictions.select_models(_label_names(c, counts)) for c in candidates]
    names = Counter(name for predictions in labelled for name in predictions.models)
    duplicates = [name for name, count in names.items() if count > 1]
    if duplicates:
        raise UsageError(f"{', '.join(duplicates)} is given twice", todo="give each run once")
    joined, *others = labelled
    for predictions in others:
        joined = joined.join_models(predictions)
    return joined


def _count_names(candidates: Sequence[Candidate]) -> Counter[str]:
    return Counter(model for candidate in candidates for model in candidate.predictions.models)


def _label_names(candidate: Candidate, counts: Counter[str]) -> dict[str, str]:
    """New names: with the run's label for models that ``counts`` has several times."""
    label = candidate.record.label
    return {
        model: model if counts[model] == 1 else f"{model} ({label})"
        for model in candidate.predictions.models
    }


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
