"""Batch scoring: an extract in, a risk for every step of every stay out, as Parquet."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from flowsheet.cohort.extract import Extract
from flowsheet.cohort.schema import TIME
from flowsheet.config import FrozenModel
from flowsheet.errors import CheckFailed
from flowsheet.lifecycle.deployment.export_file import export_file
from flowsheet.lifecycle.experiment.extract_batches import check_variables, iter_batches
from flowsheet.lifecycle.experiment.stage import Progress, Stage, run_stage
from flowsheet.prediction.model_package import PREDICTIONS
from flowsheet.state.hashing import digest
from flowsheet.tracking import model_registry
from flowsheet.tracking.model_registry import ModelVersion

SCORES: dict[str, pl.DataType] = {
    "stay_id": pl.Int64(),
    "time": TIME,  # when the prediction is made
    "step": pl.Int32(),
    "risk": pl.Float64(),
    "model": pl.String(),
    "version": pl.Int64(),
    "extract": pl.String(),  # fingerprint of the records that were scored
    "scored_at": pl.Datetime("us", "UTC"),
}


class Scored(FrozenModel):
    """What a scoring gave."""

    stage: Stage
    file: str
    model: str
    version: int
    stays: int
    steps: int


def score(model: str, extract: Path, out: Path | None, progress: Progress) -> Scored:
    """Score every stay of an extract with the version that ``NAME@ALIAS`` or ``NAME/VERSION``
    means.

    The same version and the same records are scored once: a second call finds the first one's file.
    ``out`` gets a copy of it.

    Raises:
        UsageError: there is no such version.
        CheckFailed: the folder is no whole extract, or what it can hold is not what the model was
        trained with.
        FlowsheetError: the file cannot be written.
    """
    found = model_registry.resolve_reference(model)
    opened = Extract.open(extract, verify=True)
    model_package = model_registry.load_package(found)
    check_variables(opened, model_package)
    key = digest([model_package.training_key, found.name, found.version, opened.fingerprint])

    def make(folder: Path) -> None:
        parts = [pl.DataFrame(schema=PREDICTIONS)]
        for tables in iter_batches(opened):
            parts.append(model_package.predict(tables))
            progress(f"{sum(part['stay_id'].n_unique() for part in parts):,} stays scored")
        risks = pl.concat(parts)
        _check_whole(risks, found)
        _marked(risks, found, opened).write_parquet(folder / "scores.parquet")

    made = run_stage("scores", key, make)
    file = made.folder / "scores.parquet"
    if out is not None:
        export_file(file, out)
    counted = pl.scan_parquet(file).select(pl.col("stay_id").n_unique(), pl.len()).collect().row(0)
    return Scored(
        stage=made,
        file=str(out or file),
        model=found.name,
        version=found.version,
        stays=counted[0],
        steps=counted[1],
    )


def _check_whole(risks: pl.DataFrame, found: ModelVersion) -> None:
    """No risk leaves the house that is none."""
    wrong = risks.filter(
        ~pl.col("risk").is_between(0, 1).fill_null(value=False) | pl.col("risk").is_nan()
    )
    if wrong.height:
        stay, step = wrong.select("stay_id", "step").row(0)
        raise CheckFailed(
            f"{wrong.height:,} of {risks.height:,} risks are no probabilities, the first of stay {stay}, step {step}",
            where=f"{found.name}/{found.version}",
            todo="do not use this version: roll back",
        )


def _marked(risks: pl.DataFrame, found: ModelVersion, extract: Extract) -> pl.DataFrame:
    return risks.with_columns(
        model=pl.lit(found.name),
        version=pl.lit(found.version),
        extract=pl.lit(extract.fingerprint),
        scored_at=pl.lit(datetime.now(UTC)),
    ).select(pl.col(name).cast(kind) for name, kind in SCORES.items())
