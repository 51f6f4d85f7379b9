"""Read a cohort extract in batches of stays, so that memory use does not depend on its size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import polars as pl

from flowsheet.cohort.extract import Extract
from flowsheet.cohort.schema import TABLES, Tables
from flowsheet.errors import CheckFailed
from flowsheet.prediction.model_package import ModelPackage

STAYS_PER_BATCH = 2_000


def iter_batches(extract: Extract, stays_per_batch: int = STAYS_PER_BATCH) -> Iterator[Tables]:
    """The tables of consecutive stays, by ascending ``stay_id``.

    The tables of an extract are sorted by stay, so every part of a file is read once.
    """
    all_stays = extract.scan("stays").sort("stay_id").collect()
    for stays in all_stays.iter_slices(stays_per_batch):
        in_batch = pl.col("stay_id").is_between(stays["stay_id"].min(), stays["stay_id"].max())
        other_tables = {
            table: extract.scan(table).filter(in_batch).collect()
            for table in TABLES
            if table != "stays"
        }
        yield Tables(stays=stays, **other_tables)


def load_stays(extract: Extract, stay_ids: Sequence[int]) -> Tables:
    """The tables of these stays, in memory."""
    ids = pl.Series(stay_ids, dtype=pl.Int64).sort()
    in_range = pl.col("stay_id").is_between(ids.min(), ids.max())  # skips other parts of the files
    chosen = in_range & pl.col("stay_id").is_in(ids.implode())
    return Tables(**{table: extract.scan(table).filter(chosen).collect() for table in TABLES})


def check_variables(extract: Extract, model_package: ModelPackage) -> None:
    """Refuse an extract whose source does not supply most of the model's variables.

    Without this check, the model would treat them as variables that were never measured.

    Raises:
        CheckFailed: the extract lacks more than half of the variables.
    """
    variables = model_package.columns["variables"]
    absent = sorted(set(variables) - set(extract.manifest.variables))
    if len(absent) > len(variables) / 2:
        raise CheckFailed(
            f"the extract lacks {len(absent)} of the {len(variables)} variables that the model "
            f"was trained with: {', '.join(absent[:8])}, ...",
            where=str(extract.path),
            todo="score records from a source like the one that the model was trained on",
        )
