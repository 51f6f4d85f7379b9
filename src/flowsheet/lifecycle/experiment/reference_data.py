"""What monitoring compares, gathered: at training time to be kept with the model, later from what it meets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from flowsheet.cohort.extract import QUARANTINE, Extract
from flowsheet.cohort.schema import Tables
from flowsheet.lifecycle.experiment.extract_batches import iter_batches
from flowsheet.lifecycle.experiment.prepare import open_extract
from flowsheet.lifecycle.experiment.stage import Progress, Stage, run_stage
from flowsheet.monitoring.performance import RISKS
from flowsheet.monitoring.profile import (
    PROFILE,
    VERSION,
    build_profile_sequences,
    implausible,
    profile,
)
from flowsheet.monitoring.reference import Reference
from flowsheet.prediction.model_package import ModelPackage
from flowsheet.state.hashing import digest
from flowsheet.typing import Floats, Ints
from flowsheet.windows.build import VERSION as WINDOWS_VERSION
from flowsheet.windows.sequences import Sequences


class StayRisks(NamedTuple):
    """Stays, and a risk for each of their rows (N,)."""

    stays: Sequences
    risk: Floats

    def frame(self) -> pl.DataFrame:
        """The columns of ``RISKS``."""
        at = self.stays.row_stay
        columns = {
            "stay_id": self.stays.stay_id[at],
            "subject_id": self.stays.subject_id[at],
            "risk": np.asarray(self.risk, np.float64),
            "y": np.asarray(self.stays.y),
            "scored": np.asarray(self.stays.scored),
        }
        return pl.DataFrame(columns, schema=RISKS)


def save_reference(
    model_package: ModelPackage, extract: Stage, train: Ints, said: Mapping[str, StayRisks]
) -> None:
    """Write the model's reference into its model package, with which it is loaded.

    ``train`` are the training subjects; ``said`` are the risks of the others, part by part, the
    best one first.
    """
    lines = pl.read_parquet(_profiled(model_package, extract).folder / "profile.parquet")
    mine = lines.filter(pl.col("subject_id").is_in(train.tolist()))
    part = next((name for name, each in said.items() if len(each.stays)), next(iter(said)))
    Reference.of(mine, said[part].frame(), part).save(model_package.folder / "reference")


def _profiled(model_package: ModelPackage, extract: Stage) -> Stage:
    """The profile of a whole extract: one for all the models that see the same columns of it."""
    opened = open_extract(extract)
    seen = [
        model_package.task.model_dump(mode="json", exclude={"name"}),
        model_package.features.model_dump(mode="json"),
    ]
    key = digest([VERSION, WINDOWS_VERSION, opened.fingerprint, *seen, dict(model_package.columns)])

    def make(folder: Path) -> None:
        parts = [profile(_sequences(model_package, tables)) for tables in iter_batches(opened)]
        pl.concat([*parts, set_aside(model_package, opened)]).write_parquet(
            folder / "profile.parquet"
        )

    return run_stage("profile", key, make)


def collect_current_data(
    model_package: ModelPackage, extract: Extract, progress: Progress
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Profile and risks of everybody in an extract."""
    lines, risks = [pl.DataFrame(schema=PROFILE)], [pl.DataFrame(schema=RISKS)]
    for one, said in _met(model_package, extract):
        lines.append(one)
        risks.append(said)
        progress(f"{sum(part['stay_id'].n_unique() for part in risks):,} stays seen")
    return pl.concat([*lines, set_aside(model_package, extract)]), pl.concat(risks)


def _met(
    model_package: ModelPackage, extract: Extract
) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    for tables in iter_batches(extract):
        sequences = _sequences(model_package, tables)
        yield (
            profile(sequences),
            StayRisks(sequences, model_package.predict(tables)["risk"].to_numpy()).frame(),
        )


def _sequences(model_package: ModelPackage, tables: Tables) -> Sequences:
    held = model_package.columns
    return build_profile_sequences(
        tables,
        model_package.task,
        model_package.features,
        held["variables"],
        held["drugs"],
        held["vocabulary"],
    )


def set_aside(model_package: ModelPackage, extract: Extract) -> pl.DataFrame:
    """Lines for the implausible values of an extract's quarantine, if it has one."""
    file = quarantine_file(extract)
    aside = pl.read_parquet(file, glob=False) if file else pl.DataFrame(schema=QUARANTINE)
    stays = extract.scan("stays").select("stay_id", "subject_id").collect()
    return implausible(aside, stays, model_package.columns["variables"])


def quarantine_file(extract: Extract) -> Path | None:
    """The extract's quarantine, where it has one."""
    file = extract.path / "quarantine.parquet"
    return file if file.is_file() else None
