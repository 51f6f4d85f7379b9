"""Batch scoring: a risk for every step of every stay of a cohort extract, as a Parquet file."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from flowsheet.cohort.extract import Extract
from flowsheet.cohort.schema import TIME
from flowsheet.config import FrozenModel
from flowsheet.errors import CheckFailed
from flowsheet.lifecycle.deployment.batch_plan import (
    BatchPlan,
    open_model_and_extract,
    plan_missing_batches,
)
from flowsheet.lifecycle.deployment.export_file import export_file
from flowsheet.lifecycle.experiment.capacity import check_scoring
from flowsheet.lifecycle.experiment.extract_batches import StayRange, list_batches, load_batch
from flowsheet.lifecycle.experiment.stage import Stage, find_stage, is_complete, run_stage
from flowsheet.prediction.model_package import PREDICTIONS, ModelPackage
from flowsheet.state.hashing import digest
from flowsheet.state.locations import Location
from flowsheet.tracking import model_registry, registered_packages
from flowsheet.tracking.model_registry import ModelVersion
from flowsheet.typing import Progress

SCORE_SCHEMA: dict[str, pl.DataType] = {
    "stay_id": pl.Int64(),
    "time": TIME,  # time of the prediction
    "step": pl.Int32(),
    "risk": pl.Float64(),
    "alert": pl.Boolean(),  # risk >= threshold; null where the model has no threshold
    "raised": pl.Boolean(),  # the alert is not silenced by the policy; null without one
    "threshold": pl.Float64(),  # chosen when the model was trained
    "model": pl.String(),
    "version": pl.Int64(),
    "extract": pl.String(),  # fingerprint of the scored records
    "scored_at": pl.Datetime("us", "UTC"),
}


_VERSION = 3
"""Increase it when the same records give another file."""
_SCORES = "scores"
_BATCH = "scored_batch"
"""Kinds of the stages."""
_RISKS_FILE = "risks.parquet"


class ScoringResult(FrozenModel):
    """Result of scoring an extract."""

    stage: Stage
    file: str
    """Parquet file with the columns of ``SCORE_SCHEMA``."""
    model: str
    version: int
    stays: int
    steps: int


def score(model: str, extract: Location, out: Location | None, progress: Progress) -> ScoringResult:
    """Score every stay of a cohort extract with a registered model.

    The same version and the same records are scored once: a second call returns the file of the
    first.

    Args:
        model: ``NAME@ALIAS`` or ``NAME/VERSION``.
        extract: folder of the cohort extract.
        out: file for a copy of the scores.
        progress: receives lines about the progress.

    Raises:
        UsageError: there is no such version.
        CheckFailed: the extract is incomplete or lacks most of the model's variables, a risk is
            not a probability, or the scores do not fit this machine.
        FlowsheetError: the copy cannot be written.
    """
    version, model_package, cohort = open_model_and_extract(model, extract)

    def make(folder: Path) -> None:
        copies = [out.parent] if isinstance(out, Path) else []
        check_scoring(cohort, model_package, [folder, *copies])
        batches = [pl.DataFrame(schema=PREDICTIONS)]
        stays = 0
        for batch in list_batches(cohort):
            batches.append(_find_or_predict(model_package, cohort, batch))
            stays += batches[-1]["stay_id"].n_unique()
            progress(f"{stays:,} stays scored")
        risks = pl.concat(batches, rechunk=True)
        _check_probabilities(risks, version)
        risks = _add_alerts(risks, model_package)
        _add_provenance(risks, version, cohort).write_parquet(folder / "scores.parquet")

    stage = run_stage(_SCORES, _scores_key(version, model_package, cohort), make)
    file = stage.folder / "scores.parquet"
    if out is not None:
        export_file(file, out)
    stays, steps = (
        pl.scan_parquet(file).select(pl.col("stay_id").n_unique(), pl.len()).collect().row(0)
    )
    return ScoringResult(
        stage=stage,
        file=str(out or file),
        model=version.name,
        version=version.version,
        stays=stays,
        steps=steps,
    )


def plan_batches(model: str, extract: Location) -> BatchPlan:
    """The batches that :func:`score` would predict: those that the store does not have.

    Args:
        model: ``NAME@ALIAS`` or ``NAME/VERSION``.
        extract: folder of the cohort extract.

    Raises:
        UsageError: there is no such version.
        CheckFailed: the extract is incomplete or lacks most of the model's variables.
    """
    opened = open_model_and_extract(model, extract)
    is_scored = is_complete(_SCORES, _scores_key(*opened))

    def is_built(batch: StayRange) -> bool:
        return is_scored or _find_batch(opened.model_package, opened.extract, batch) is not None

    return plan_missing_batches(opened, extract, is_built)


def score_batch(model: str, extract: Location, batch: StayRange) -> Stage:
    """Predict one batch of :func:`plan_batches`, which :func:`score` then finds.

    Args:
        model: ``NAME/VERSION``.
        extract: folder of the cohort extract.
        batch: its stays.
    """
    version = model_registry.resolve_reference(model)
    cohort = Extract.open(extract)
    model_package = registered_packages.load_package_once(version)

    def build(folder: Path) -> None:
        risks = model_package.predict(load_batch(cohort, batch))
        risks.write_parquet(folder / _RISKS_FILE)

    return run_stage(_BATCH, _batch_key(model_package, cohort, batch), build)


def _find_or_predict(
    model_package: ModelPackage, cohort: Extract, batch: StayRange
) -> pl.DataFrame:
    """The risks of a batch that a worker has predicted, or those that are predicted now."""
    if stage := _find_batch(model_package, cohort, batch):
        return pl.read_parquet(stage.folder / _RISKS_FILE, glob=False)
    return model_package.predict(load_batch(cohort, batch))


def _find_batch(model_package: ModelPackage, cohort: Extract, batch: StayRange) -> Stage | None:
    return find_stage(_BATCH, _batch_key(model_package, cohort, batch))


def _scores_key(version: ModelVersion, model_package: ModelPackage, cohort: Extract) -> str:
    return digest(
        [_VERSION, model_package.digest, version.name, version.version, cohort.fingerprint]
    )


def _batch_key(model_package: ModelPackage, cohort: Extract, batch: StayRange) -> str:
    return digest([_VERSION, model_package.digest, cohort.fingerprint, *batch])


def _check_probabilities(risks: pl.DataFrame, version: ModelVersion) -> None:
    is_probability = pl.col("risk").is_between(0, 1).fill_null(value=False)
    invalid = risks.filter(~is_probability | pl.col("risk").is_nan())
    if invalid.height:
        stay, step = invalid.select("stay_id", "step").row(0)
        raise CheckFailed(
            f"{invalid.height:,} of {risks.height:,} risks are not probabilities, "
            f"first at stay {stay}, step {step}",
            where=version.reference,
            todo="do not use this version; go back to the previous one with `flowsheet rollback`",
        )


def _add_alerts(risks: pl.DataFrame, model_package: ModelPackage) -> pl.DataFrame:
    limit = pl.lit(model_package.threshold, pl.Float64)
    raised = model_package.raise_alerts(risks)
    return risks.with_columns(
        alert=pl.col("risk") >= limit,
        raised=pl.lit(None, pl.Boolean) if raised is None else pl.Series(raised, dtype=pl.Boolean),
        threshold=limit,
    )


def _add_provenance(risks: pl.DataFrame, version: ModelVersion, extract: Extract) -> pl.DataFrame:
    scores = risks.with_columns(
        model=pl.lit(version.name),
        version=pl.lit(version.version),
        extract=pl.lit(extract.fingerprint),
        scored_at=pl.lit(datetime.now(UTC)),
    )
    return scores.select(pl.col(name).cast(dtype) for name, dtype in SCORE_SCHEMA.items())
