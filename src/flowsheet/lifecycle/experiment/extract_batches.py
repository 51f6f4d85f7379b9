"""Read a cohort extract in batches of stays, so that memory use does not depend on its size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import polars as pl

from flowsheet.cohort.extract import Extract
from flowsheet.cohort.schema import TABLES, Tables
from flowsheet.errors import CheckFailed
from flowsheet.prediction.model_package import ModelPackage

STAYS_PER_BATCH = 2_000


class StayRange(NamedTuple):
    """The stays of a batch: those whose ids are in a range."""

    first: int
    last: int


def list_batches(extract: Extract, stays_per_batch: int | None = None) -> list[StayRange]:
    """Consecutive stays, by ascending ``stay_id``.

    Args:
        extract: the cohort.
        stays_per_batch: None: ``STAYS_PER_BATCH``.
    """
    ids = extract.scan("stays").select(pl.col("stay_id").sort()).collect()["stay_id"].to_numpy()
    starts = range(0, len(ids), stays_per_batch or STAYS_PER_BATCH)
    batches = [ids[start : start + (stays_per_batch or STAYS_PER_BATCH)] for start in starts]
    return [StayRange(int(batch[0]), int(batch[-1])) for batch in batches]


def load_batch(extract: Extract, batch: StayRange) -> Tables:
    """The tables of a batch, in memory.

    The tables of an extract are sorted by stay, so every part of a file is read once.
    """
    in_batch = pl.col("stay_id").is_between(*batch)
    tables = {table: extract.scan(table).filter(in_batch).collect() for table in TABLES}
    return Tables(**{**tables, "stays": tables["stays"].sort("stay_id")})


def iter_batches(extract: Extract, stays_per_batch: int | None = None) -> Iterator[Tables]:
    """The tables of each of :func:`list_batches`."""
    for batch in list_batches(extract, stays_per_batch):
        yield load_batch(extract, batch)


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
