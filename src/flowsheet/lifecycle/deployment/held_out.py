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

HOLD_OUT_THE_SAME = (
    "hold out the same subjects in every training: the same seed, protocol and shares "
    "(evaluation.test, evaluation.validation)"
)


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
    return PairedPredictions(
        predictions, describe_rows(predictions, _find_run_extract(candidate.record)), ""
    )


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
    rows = describe_rows(predictions, _find_run_extract(candidate.record))
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
    rows = describe_rows(predictions, _find_run_extract(candidate.record))
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
    seen = find_seen(package, extract, held_out, version)
    if len(seen) > max_seen_share * len(held_out):
        raise SeenSubjects(
            f"the champion was developed on {len(seen):,} of the {len(held_out):,} held-out "
            f"subjects; at most {max_seen_share:.0%} may be left out (max_seen_share)",
            where=version.reference,
            todo=HOLD_OUT_THE_SAME,
        )
    predictions = predictions.leave_out_subjects(seen)
    predictions = add_scores(predictions, names[1], package, extract)
    how = "the champion scored them"
    if seen:
        how += (
            f"; {len(seen):,} of {len(held_out):,} held-out subjects are left out: it was developed"
            " on them"
        )
    return PairedPredictions(predictions, describe_rows(predictions, extract), how)


def rename_model(predictions: Predictions, name: str) -> Predictions:
    """The predictions of the first model under another name."""
    (model, *_) = predictions.models
    return predictions.select_models({model: name})


def describe_rows(predictions: Predictions, extract: Extract | None) -> JudgedRows:
    """Fingerprint and counts of the scored rows, and when their stays began, where known.

    Args:
        predictions: the rows.
        extract: what they are of, where it is at hand.
    """
    scored = predictions.rows.filter("scored")
    first, last = _find_admissions(scored["stay_id"].unique(), extract)
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
    if (extract := _find_run_extract(record)) is not None:
        return extract
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


def _find_run_extract(record: RunRecord) -> Extract | None:
    """The cohort extract of an experiment's run, where it is at hand."""
    key = record.tags.get(EXTRACT_STAGE, "")
    if not key or not is_complete("extract", key):
        return None
    return Extract.open(Store.open().path("extract", key) / "extract")


def _find_admissions(stays: pl.Series, extract: Extract | None) -> tuple[str | None, str | None]:
    """Days of the first and the last admission; None where the extract is not at hand."""
    if extract is None:
        return None, None
    admitted = pl.col("admitted_at")
    days = (
        extract.scan("stays")
        .filter(pl.col("stay_id").is_in(stays.to_list()))
        .select(first=admitted.min().dt.date(), last=admitted.max().dt.date())
        .collect()
    )
    first, last = days.row(0)
    return (str(first), str(last)) if first else (None, None)


def find_seen(
    package: ModelPackage, extract: Extract, held_out: pl.Series, version: ModelVersion
) -> list[int]:
    """The held-out subjects that a registered version was developed on.

    Args:
        package: the version's package.
        extract: the extract with the held-out subjects.
        held_out: their ids.
        version: the version.

    Raises:
        CheckFailed: the package has no list of its subjects.
    """
    if package.development is None:
        raise CheckFailed(
            f"an earlier release trained {version.reference} and kept no list of its subjects",
            where=version.reference,
            todo="train it again with this release",
        )
    is_held_out = pl.col("subject_id").is_in(held_out.to_list())
    stays = extract.scan("stays").filter(is_held_out).collect()
    seen: list[int] = package.development.subjects.find_seen(stays).seen.tolist()
    return seen


class SeenSubjects(CheckFailed):
    """A model was developed on too many of the subjects that it would be judged on."""


def add_scores(
    predictions: Predictions, name: str, package: ModelPackage, extract: Extract
) -> Predictions:
    """The predictions with those of a further model, which scores the extract's rows now.

    Args:
        predictions: the held-out rows.
        name: the name of the further model.
        package: the model; it has its list of subjects, and so its alert policy.
        extract: the extract that the rows are of.
    """
    stays = predictions.rows["stay_id"].unique().to_list()
    assert package.policy is not None
    risks = package.predict(load_stays(extract, stays))
    return predictions.add_model(name, risks, package.policy)
