"""Collect the data that monitoring compares: the reference at training time, later current data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from flowsheet.cohort.extract import QUARANTINE, Extract
from flowsheet.cohort.schema import Tables
from flowsheet.lifecycle.experiment.extract_batches import (
    StayRange,
    iter_batches,
    list_batches,
    load_batch,
)
from flowsheet.lifecycle.experiment.prepare import open_extract
from flowsheet.lifecycle.experiment.stage import Stage, find_stage, run_stage
from flowsheet.monitoring.performance import RISK_SCHEMA
from flowsheet.monitoring.profile import (
    PROFILE_SCHEMA,
    PROFILE_VERSION,
    build_profile_sequences,
    compute_profile,
    profile_implausible_values,
)
from flowsheet.monitoring.reference import Reference
from flowsheet.prediction.manifest import write_manifest
from flowsheet.prediction.model_package import ModelPackage
from flowsheet.state.hashing import digest
from flowsheet.typing import Floats, Ints, Progress
from flowsheet.windows.build import VERSION as WINDOWS_VERSION
from flowsheet.windows.censoring import apply_weights
from flowsheet.windows.sequences import Sequences

_STAYS_PER_PROFILE = 500
_BATCH = "monitored_batch"
"""Kind of the stages."""


class StayRisks(NamedTuple):
    """Stays and a predicted risk for each of their rows, shape (N,)."""

    stays: Sequences
    risk: Floats

    def to_frame(self) -> pl.DataFrame:
        """One row a step, with the columns of ``RISK_SCHEMA``."""
        stay = self.stays.row_stay
        columns = {
            "stay_id": self.stays.stay_id[stay],
            "subject_id": self.stays.subject_id[stay],
            "risk": np.asarray(self.risk, np.float64),
            "y": np.asarray(self.stays.y),
            "scored": np.asarray(self.stays.scored),
            "weight": self._weight(),
        }
        return pl.DataFrame(columns, schema=RISK_SCHEMA)

    def _weight(self) -> Floats:
        weight = self.stays.weight
        return np.asarray(self.stays.scored if weight is None else weight, np.float64)


def save_reference(
    model_package: ModelPackage,
    extract: Stage,
    train_subjects: Ints,
    risks: Mapping[str, StayRisks],
) -> None:
    """Write the monitoring reference into the model package.

    Args:
        model_package: the trained model.
        extract: stage of the extract that it was trained on.
        train_subjects: ids of the training subjects, shape (s,).
        risks: {part: predicted risks} of the test and validation subjects. The first part with any
            stay is the reference for risks and performance.
    """
    training_profile = pl.read_parquet(
        _profile_extract(model_package, extract).folder / "profile.parquet"
    ).filter(pl.col("subject_id").is_in(train_subjects.tolist()))
    parts_with_stays = [part for part, part_risks in risks.items() if len(part_risks.stays)]
    part = parts_with_stays[0] if parts_with_stays else next(iter(risks))
    reference = Reference.from_profile(training_profile, risks[part].to_frame(), part)
    reference.save(model_package.folder / "reference")
    write_manifest(model_package.folder)


def _profile_extract(model_package: ModelPackage, extract: Stage) -> Stage:
    """The profile of a whole extract, shared by all models that use the same columns."""
    cohort_extract = open_extract(extract)
    choices = [
        model_package.task.model_dump(mode="json", exclude={"name"}),
        model_package.features.model_dump(mode="json"),
    ]
    columns = dict(model_package.columns)
    key = digest([PROFILE_VERSION, WINDOWS_VERSION, cohort_extract.fingerprint, *choices, columns])

    def build(folder: Path) -> None:
        parts = [
            compute_profile(_sequences(model_package, tables))
            for tables in iter_batches(cohort_extract, _STAYS_PER_PROFILE)
        ]
        parts.append(profile_quarantine(model_package, cohort_extract))
        pl.concat(parts).write_parquet(folder / "profile.parquet")

    return run_stage("profile", key, build)


def collect_current_data(
    model_package: ModelPackage, extract: Extract, progress: Progress
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Profile (``PROFILE_SCHEMA``) and predicted risks (``RISK_SCHEMA``) of all stays."""
    profiles = [pl.DataFrame(schema=PROFILE_SCHEMA)]
    risks = [pl.DataFrame(schema=RISK_SCHEMA)]
    stays = 0
    for batch in list_batches(extract):
        batch_profile, batch_risks = _find_or_profile(model_package, extract, batch)
        profiles.append(batch_profile)
        risks.append(batch_risks)
        stays += batch_risks["stay_id"].n_unique()
        progress(f"{stays:,} stays profiled")
    profiles.append(profile_quarantine(model_package, extract))
    return pl.concat(profiles), pl.concat(risks)


def profile_batch(model_package: ModelPackage, extract: Extract, batch: StayRange) -> Stage:
    """Profile one batch and predict its risks, which :func:`collect_current_data` then finds."""

    def build(folder: Path) -> None:
        profile, risks = _profile(model_package, extract, batch)
        profile.write_parquet(folder / "profile.parquet")
        risks.write_parquet(folder / "risks.parquet")

    return run_stage(_BATCH, _batch_key(model_package, extract, batch), build)


def find_batch(model_package: ModelPackage, extract: Extract, batch: StayRange) -> Stage | None:
    """A batch of :func:`profile_batch` in the store."""
    return find_stage(_BATCH, _batch_key(model_package, extract, batch))


def _find_or_profile(
    model_package: ModelPackage, extract: Extract, batch: StayRange
) -> tuple[pl.DataFrame, pl.DataFrame]:
    stage = find_batch(model_package, extract, batch)
    if stage is None:
        return _profile(model_package, extract, batch)
    profile, risks = (stage.folder / f"{name}.parquet" for name in ("profile", "risks"))
    return pl.read_parquet(profile, glob=False), pl.read_parquet(risks, glob=False)


def _profile(
    model_package: ModelPackage, extract: Extract, batch: StayRange
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Profile and risks of a batch."""
    tables = load_batch(extract, batch)
    sequences = _sequences(model_package, tables)
    risk = model_package.predict(tables)["risk"].to_numpy()
    development = model_package.development
    weighted = apply_weights(sequences, development.completeness if development else None)
    return compute_profile(sequences), StayRisks(weighted, risk).to_frame()


def _batch_key(model_package: ModelPackage, extract: Extract, batch: StayRange) -> str:
    versions = [PROFILE_VERSION, WINDOWS_VERSION]
    return digest([*versions, model_package.digest, extract.fingerprint, *batch])


def _sequences(model_package: ModelPackage, tables: Tables) -> Sequences:
    columns = model_package.columns
    return build_profile_sequences(
        tables,
        model_package.task,
        model_package.features,
        columns["variables"],
        columns["drugs"],
        columns["vocabulary"],
    )


def profile_quarantine(model_package: ModelPackage, extract: Extract) -> pl.DataFrame:
    """Profile rows for the implausible values in an extract's quarantine."""
    file = quarantine_file(extract)
    rows = pl.read_parquet(file, glob=False) if file else pl.DataFrame(schema=QUARANTINE)
    stays = extract.scan("stays").select("stay_id", "subject_id").collect()
    return profile_implausible_values(rows, stays, model_package.columns["variables"])


def quarantine_file(extract: Extract) -> Path | None:
    """The file with the extract's quarantined rows, or None if there is none."""
    file = extract.path / "quarantine.parquet"
    return file if file.is_file() else None
