"""The held-out rows that a candidate and the champion are both judged on.

Records grow. So the champion scores today's held-out rows, those of the candidate, with its own
windows of the candidate's extract. Its package keeps digests of the subjects that it was developed
on: rows of these are left out up to a declared share, and beyond it nothing is judged. Where both
were tested on the same rows, their recorded predictions are used, which are the same figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from flowsheet.cohort.extract import Extract
from flowsheet.config import CohortConfig
from flowsheet.errors import CheckFailed
from flowsheet.lifecycle.deployment.candidates import Candidate, keep_common_rows
from flowsheet.lifecycle.experiment.extract_batches import check_variables, load_stays
from flowsheet.lifecycle.experiment.predictions import Predictions
from flowsheet.lifecycle.experiment.prepare import ingest_cohort
from flowsheet.lifecycle.experiment.stage import is_complete
from flowsheet.state.store import Store
from flowsheet.tracking import registered_packages
from flowsheet.tracking.decisions import JudgedRows
from flowsheet.tracking.run_records import EXTRACT_STAGE, RunRecord

if TYPE_CHECKING:
    from flowsheet.prediction.model_package import ModelPackage
    from flowsheet.tracking.model_registry import ModelVersion


@dataclass(frozen=True)
class PairedPredictions:
    """Predictions of candidate and champion for the same rows."""

    predictions: Predictions
    """With one model, or with both."""
    rows: JudgedRows
    how: str
    """Where the champion's predictions come from, in words."""


def judge_alone(candidate: Candidate, name: str) -> PairedPredictions:
    """The candidate's own predictions, under ``name``."""
    predictions = rename_model(candidate.predictions, name)
    return PairedPredictions(predictions, describe_rows(predictions, candidate.record), "")


def pair_recorded(
    candidate: Candidate, champion: Candidate, names: tuple[str, str]
) -> PairedPredictions:
    """The recorded predictions of both, which have the same rows.

    Args:
        candidate: the candidate, whose model gets the first name.
        champion: the champion, whose model gets the second name.
        names: the names.
    """
    predictions = rename_model(candidate.predictions, names[0])
    predictions = predictions.join_models(rename_model(champion.predictions, names[1]))
    rows = describe_rows(predictions, candidate.record)
    return PairedPredictions(predictions, rows, "the rows that the champion was tested on")


def pair_common(
    candidate: Candidate, champion: Candidate, names: tuple[str, str]
) -> PairedPredictions:
    """The recorded predictions of the rows on which both were tested.

    Args:
        candidate: the candidate, whose model gets the first name.
        champion: the champion, whose model gets the second name.
        names: the names.

    Raises:
        CheckFailed: they have no row in common.
    """
    common = keep_common_rows([candidate.predictions, champion.predictions])
    first, second = common.predictions
    predictions = rename_model(first, names[0]).join_models(rename_model(second, names[1]))
    rows = describe_rows(predictions, candidate.record)
    return PairedPredictions(predictions, rows, common.summary)


def score_with_champion(
    candidate: Candidate, version: ModelVersion, names: tuple[str, str], max_seen_share: float
) -> PairedPredictions:
    """Let the champion score the candidate's held-out rows.

    Args:
        candidate: the candidate, whose model gets the first name.
        version: the champion, whose model gets the second name.
        names: the names.
        max_seen_share: the share of the held-out subjects whom the champion may have been
            developed on; these are left out.

    Raises:
        CheckFailed: it was developed on more of them, or cannot score them.
    """
    package = registered_packages.load_package(version)
    extract = open_run_extract(candidate.record)
    check_variables(extract, package)
    predictions = rename_model(candidate.predictions, names[0])
    held_out = predictions.rows["subject_id"].unique()
    seen = _find_seen(package, extract, held_out, version, max_seen_share)
    predictions = predictions.leave_out_subjects(seen)
    scored = _score(package, extract, predictions)
    threshold = package.threshold
    assert threshold is not None  # of the same release as the list of subjects
    predictions = predictions.add_model(names[1], scored, threshold)
    how = "the champion scored them"
    if seen:
        how += (
            f"; {len(seen):,} of {len(held_out):,} held-out subjects are left out: it was developed"
            " on them"
        )
    return PairedPredictions(predictions, describe_rows(predictions, candidate.record), how)


def rename_model(predictions: Predictions, name: str) -> Predictions:
    """The predictions of the first model under another name."""
    (model, *_) = predictions.models
    return predictions.select_models({model: name})


def describe_rows(predictions: Predictions, record: RunRecord) -> JudgedRows:
    """Fingerprint and counts of the scored rows, and when their stays began, where known."""
    scored = predictions.rows.filter("scored")
    first, last = _find_admissions(scored["stay_id"].unique(), record)
    return JudgedRows(
        fingerprint=predictions.targets_fingerprint(),
        rows=scored.filter(repeat=predictions.folds[0].id.repeat).height,
        stays=scored["stay_id"].n_unique(),
        subjects=scored["subject_id"].n_unique(),
        first_admission=first,
        last_admission=last,
    )


def open_run_extract(record: RunRecord) -> Extract:
    """The cohort extract of an experiment's run; it is ingested again where it is not at hand.

    Raises:
        CheckFailed: the records have changed since.
    """
    key = record.tags.get(EXTRACT_STAGE, "")
    if key and is_complete("extract", key):
        return Extract.open(Store.open().path("extract", key) / "extract")
    cohort = record.read_config("cohort", CohortConfig)
    stage = ingest_cohort(cohort, lambda line: None)
    extract = Extract.open(stage.folder / "extract")
    if extract.fingerprint != record.fingerprints.get("extract"):
        raise CheckFailed(
            "the extract of the run is not at hand, and the records have changed since",
            where=f"run {record.run_id}",
            todo="run the experiment again on today's records",
        )
    return extract


def _find_admissions(stays: pl.Series, record: RunRecord) -> tuple[str | None, str | None]:
    """Days of the first and the last admission; None where the extract is not at hand."""
    key = record.tags.get(EXTRACT_STAGE, "")
    if not key or not is_complete("extract", key):
        return None, None
    extract = Extract.open(Store.open().path("extract", key) / "extract")
    admitted = pl.col("admitted_at")
    days = (
        extract.scan("stays")
        .filter(pl.col("stay_id").is_in(stays.to_list()))
        .select(first=admitted.min().dt.date(), last=admitted.max().dt.date())
        .collect()
    )
    first, last = days.row(0)
    return (str(first), str(last)) if first else (None, None)


def _find_seen(
    package: ModelPackage,
    extract: Extract,
    held_out: pl.Series,
    version: ModelVersion,
    max_share: float,
) -> list[int]:
    """The held-out subjects that the champion was developed on.

    Args:
        package: the champion's package.
        extract: the candidate's extract.
        held_out: the candidate's held-out subjects.
        version: the champion.
        max_share: the largest share of them.
    """
    if package.development is None:
        raise CheckFailed(
            "an earlier release trained the champion and kept no list of its subjects",
            where=version.reference,
            todo="train it again with this release",
        )
    is_held_out = pl.col("subject_id").is_in(held_out.to_list())
    stays = extract.scan("stays").filter(is_held_out).collect()
    seen: list[int] = package.development.subjects.find_seen(stays).seen.tolist()
    if len(seen) > max_share * len(held_out):
        raise SeenSubjects(
            f"the champion was developed on {len(seen):,} of the {len(held_out):,} held-out "
            f"subjects; at most {max_share:.0%} may be left out (max_seen_share)",
            where=version.reference,
            todo="hold out the same subjects as the champion: the same seed, protocol and shares "
            "(evaluation.test, evaluation.validation)",
        )
    return seen


class SeenSubjects(CheckFailed):
    """The champion was developed on too many of the subjects that it would be judged on."""


def _score(package: ModelPackage, extract: Extract, predictions: Predictions) -> pl.DataFrame:
    """The champion's risk of each row: stay_id, step, risk."""
    stays = predictions.rows["stay_id"].unique().to_list()
    return package.predict(load_stays(extract, stays))
