"""Batch scoring: a risk for every step of every stay of a cohort extract, as a Parquet file."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from flowsheet.cohort.extract import Extract
from flowsheet.cohort.schema import TIME
from flowsheet.config import FrozenModel
from flowsheet.errors import CheckFailed
from flowsheet.lifecycle.deployment.export_file import export_file
from flowsheet.lifecycle.experiment.capacity import check_scoring
from flowsheet.lifecycle.experiment.extract_batches import check_variables, iter_batches
from flowsheet.lifecycle.experiment.stage import Stage, run_stage
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
    version = model_registry.resolve_reference(model)
    cohort = Extract.open(extract, verify=True)
    model_package = registered_packages.load_package(version)
    check_variables(cohort, model_package)
    key = digest(
        [_VERSION, model_package.digest, version.name, version.version, cohort.fingerprint]
    )

    def make(folder: Path) -> None:
        copies = [out.parent] if isinstance(out, Path) else []
        check_scoring(cohort, model_package, [folder, *copies])
        batches = [pl.DataFrame(schema=PREDICTIONS)]
        stays = 0
        for tables in iter_batches(cohort):
            batches.append(model_package.predict(tables))
            stays += batches[-1]["stay_id"].n_unique()
            progress(f"{stays:,} stays scored")
        risks = pl.concat(batches)
        _check_probabilities(risks, version)
        risks = _add_alerts(risks, model_package)
        _add_provenance(risks, version, cohort).write_parquet(folder / "scores.parquet")

    stage = run_stage("scores", key, make)
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
