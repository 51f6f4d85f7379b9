"""An extract a part at a time, so that its size is no matter of memory."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from flowsheet.cohort.extract import Extract
from flowsheet.cohort.schema import TABLES, Tables
from flowsheet.errors import CheckFailed
from flowsheet.prediction.model_package import ModelPackage

STAYS_PER_BATCH = 2_000


def iter_batches(extract: Extract, stays: int = STAYS_PER_BATCH) -> Iterator[Tables]:
    """Some stays at a time, in ascending order; the tables are sorted by stay, so each part is read once."""
    every = extract.scan("stays").sort("stay_id").collect()
    for some in every.iter_slices(stays):
        mine = pl.col("stay_id").is_between(some["stay_id"].min(), some["stay_id"].max())
        rest = {
            table: extract.scan(table).filter(mine).collect()
            for table in TABLES
            if table != "stays"
        }
        yield Tables(stays=some, **rest)


def check_variables(extract: Extract, model_package: ModelPackage) -> None:
    """What the model knows and the extract can never hold would silently count as never measured.

    Raises:
        CheckFailed: that is more than half of the model's variables.
    """
    absent = sorted(set(model_package.columns["variables"]) - set(extract.manifest.variables))
    if len(absent) > len(model_package.columns["variables"]) / 2:
        raise CheckFailed(
            f"the extract cannot hold {len(absent)} of the {len(model_package.columns['variables'])} variables that the model "
            f"was trained with: {', '.join(absent[:8])}, ...",
            where=str(extract.path),
            todo="score records of the kind that the model was trained on",
        )
