"""Batches as they are written: validated, with the responses of the cohort."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Self

import polars as pl

from flowsheet.cohort.compute_responses import ComputedResponses
from flowsheet.cohort.quarantine import BatchValidator
from flowsheet.cohort.schema import TABLES, Tables
from flowsheet.cohort.sources.base import StayBatch
from flowsheet.cohort.validation_counts import ValidationCounts
from flowsheet.errors import CheckFailed
from flowsheet.state.publish import publish

_QUARANTINED, _FIRST_ONSETS = "quarantined", "first_onsets"


class CheckedBatch(NamedTuple):
    """The rows of a batch that pass, and those that do not."""

    tables: Tables
    """With the episodes of every response."""
    quarantined: pl.DataFrame
    """Columns as in ``QUARANTINE``."""
    first_onsets: pl.DataFrame
    """As in :class:`StayBatch`."""
    counts: ValidationCounts

    def save(self, folder: Path) -> None:
        """Write the batch to a new folder, completely or not at all."""
        frames = {**vars(self.tables), _QUARANTINED: self.quarantined}
        frames[_FIRST_ONSETS] = self.first_onsets
        with publish(folder) as part:
            for name, frame in frames.items():
                frame.write_ipc_stream(part / f"{name}.arrow", compression="lz4")
            self.counts.save(part)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The batch that :meth:`save` wrote."""
        names = (*TABLES, _QUARANTINED, _FIRST_ONSETS)
        frames = {name: pl.read_ipc_stream(folder / f"{name}.arrow") for name in names}
        return cls(
            tables=Tables(**{name: frames[name] for name in TABLES}),
            quarantined=frames[_QUARANTINED],
            first_onsets=frames[_FIRST_ONSETS],
            counts=ValidationCounts.load(folder),
        )


class BatchChecker(NamedTuple):
    """Checks batches; what it makes of one depends on no other."""

    responses: ComputedResponses
    max_rows_per_stay: int

    def check(self, batch: StayBatch, last_stay: int | None) -> CheckedBatch:
        """Validate a batch, and add the episodes of the responses.

        Args:
            batch: of the source.
            last_stay: the greatest id of a stay of earlier batches.

        Raises:
            CheckFailed: a stay has too many rows; the batch has not the contract's columns and
                types; or a response gives episodes that break the contract.
        """
        _check_rows_per_stay(batch, self.max_rows_per_stay)
        validator = BatchValidator(last_stay)
        tables, quarantined = validator.validate_batch(batch)
        tables = self.responses.add_to(tables)
        validator.counts.episodes.update(tables.episodes["response"].to_list())
        return CheckedBatch(tables, quarantined, batch.first_onsets, validator.counts)


def _check_rows_per_stay(batch: StayBatch, limit: int) -> None:
    for table in ("events", "treatments"):
        rows: pl.DataFrame = getattr(batch, table)
        if rows.height <= limit:
            continue
        counts = rows.group_by("stay_id").len().filter(pl.col("len") > limit).sort("stay_id")
        for stay, n in counts.head(1).iter_rows():
            raise CheckFailed(
                f"a stay has {n:,} rows of {table}, more than {limit:,}",
                where=f"stay {stay}",
                todo="fix the records, or raise cohort.max_rows_per_stay",
            )
