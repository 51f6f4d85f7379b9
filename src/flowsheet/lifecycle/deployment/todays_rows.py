"""Registered versions that score the rows that are held out of today's records.

The records are those of the compared experiment that was started last, as they are now, split as
that experiment splits them. Every model scores their held-out rows now, with its own windows of
these records.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from flowsheet.cohort.extract import Extract
from flowsheet.config import ExperimentConfig, validate_config
from flowsheet.errors import CheckFailed, UsageError
from flowsheet.lifecycle.deployment.candidates import ComparedModels
from flowsheet.lifecycle.deployment.evaluated_models import EvaluatedModel, load_models
from flowsheet.lifecycle.deployment.held_out import (
    HOLD_OUT_THE_SAME,
    SeenSubjects,
    add_scores,
    describe_rows,
    find_seen,
)
from flowsheet.lifecycle.experiment import prepare
from flowsheet.lifecycle.experiment.evaluate import collect_predictions
from flowsheet.lifecycle.experiment.extract_batches import check_variables
from flowsheet.lifecycle.experiment.folds import plan_folds
from flowsheet.lifecycle.experiment.predictions import Predictions
from flowsheet.tracking.model_registry import list_versions_of_runs
from flowsheet.tracking.run_records import RunRecord, load_run_record
from flowsheet.typing import Progress

_MAX_SEEN_SHARE = 0.1
"""Of the held-out subjects: as a cohort grows, a few at the border of the split move."""


def score_todays_rows(references: Sequence[str], progress: Progress) -> ComparedModels:
    """Let registered versions score the held-out rows of today's records.

    Args:
        references: ``NAME/VERSION``, ``NAME@ALIAS``, or runs, whose registered versions are meant.
        progress: receives lines about the progress.

    Raises:
        UsageError: there is no such run or version, or nothing to compare.
        CheckFailed: the tasks differ, a model was developed on a held-out subject, or cannot score
            the records.
    """
    models = load_models(_find_versions(references))
    if len(models) < 2:
        raise UsageError("there is only one model", todo="add another version or run")
    newest = max(models, key=lambda model: model.record.started_at).record
    extract, predictions = _hold_out(newest, progress)
    predictions, left_out = _leave_out_seen(models, extract, predictions)
    for model in models:
        predictions = add_scores(predictions, model.name, model.package, extract)
        progress(f"{model.version.reference} has scored {predictions.rows.height:,} rows")
    rows = describe_rows(predictions, extract)
    return ComparedModels(
        predictions=predictions,
        records=[model.record for model in models],
        rows=f"{rows.summary}, held out of today's records of run {newest.run_id[:8]}{left_out}",
        titles={model.name: model.title for model in models},
    )


def _find_versions(references: Sequence[str]) -> list[str]:
    """``NAME/VERSION`` or ``NAME@ALIAS`` of each reference; of a run those of its models."""
    versions = []
    for reference in references:
        if "/" in reference or "@" in reference:
            versions.append(reference)
            continue
        with tempfile.TemporaryDirectory() as folder:
            record = load_run_record(reference, Path(folder))
        found = list_versions_of_runs(record.model_run_ids())
        if not found:
            raise CheckFailed(
                "no model of the run is registered, so that none can score today's rows",
                where=f"run {record.run_id}",
                todo="compare with --on common, or run it with registry.register_models=true",
            )
        versions += [version.reference for version in found]
    return versions


def _hold_out(record: RunRecord, progress: Progress) -> tuple[Extract, Predictions]:
    """The extract of the experiment's records now, and its held-out rows without any model."""
    where = f"the record of run {record.run_id}"
    config = validate_config(ExperimentConfig, record.config, where=where)
    ingested = prepare.ingest_cohort(config.cohort, progress)
    windows = prepare.build_windows(ingested, config.task, config.features)
    split = prepare.split_subjects(ingested, windows, config.evaluation, config.seed)
    plan = plan_folds(config, ingested, windows, split)
    predictions = collect_predictions(plan.folds, {fold.name: {} for fold in plan.folds})
    return prepare.open_extract(ingested), predictions


def _leave_out_seen(
    models: Sequence[EvaluatedModel], extract: Extract, predictions: Predictions
) -> tuple[Predictions, str]:
    """The rows of subjects on whom no model was developed, and how many are left out, in words.

    Raises:
        SeenSubjects: a model was developed on too many of the held-out subjects.
        CheckFailed: a model lacks most of its variables.
    """
    held_out = predictions.rows["subject_id"].unique()
    all_seen: set[int] = set()
    for model in models:
        check_variables(extract, model.package)
        seen = find_seen(model.package, extract, held_out, model.version)
        if len(seen) > _MAX_SEEN_SHARE * len(held_out):
            raise SeenSubjects(
                f"{model.version.reference} was developed on {len(seen):,} of the "
                f"{len(held_out):,} subjects that are held out of today's records; at most "
                f"{_MAX_SEEN_SHARE:.0%} may be left out",
                where=model.version.reference,
                todo=f"{HOLD_OUT_THE_SAME}; or compare with --on common, or on the subjects who "
                "are new to all with `flowsheet evaluate`",
            )
        all_seen.update(seen)
    if not all_seen:
        return predictions, ""
    text = (
        f"; {len(all_seen):,} of {len(held_out):,} held-out subjects are left out: a model was "
        "developed on them"
    )
    return predictions.leave_out_subjects(sorted(all_seen)), text
