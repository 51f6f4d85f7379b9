"""An ingest's groups of stays, whose batches other processes build."""

from __future__ import annotations

from pathlib import Path

from flowsheet.cohort.compute_responses import make_responses
from flowsheet.cohort.divided import DividedSource, build_piece
from flowsheet.cohort.ingest import make_source
from flowsheet.cohort.recipe import make_recipe
from flowsheet.cohort.sources.base import SOURCES
from flowsheet.config import CohortConfig

MIN_GROUPS = 12
"""Fewer are built by the process of the ingest. It builds a group of a thousand stays in 3 seconds
of processor time, two at a time; a worker process takes 5 to start, and reads what was written."""


def is_worth_dividing(cohort: CohortConfig) -> bool:
    """Whether several processes build a cohort's batches faster than one, as far as is known."""
    if not issubclass(SOURCES.get(cohort.source), DividedSource):
        return False
    source = make_source(cohort)
    assert isinstance(source, DividedSource)
    size = source.estimate_size()
    return size is not None and size.stays > (MIN_GROUPS - 1) * source.stays_per_group


def build_group(cohort: CohortConfig, folder: Path, group: int) -> None:
    """Build the batch of a group, which the ingest then finds in the folder.

    Args:
        cohort: as the ingest has it; its records are not read.
        folder: of what the ingest has read.
        group: number of the group.
    """
    source = make_source(cohort, with_records=False)
    assert isinstance(source, DividedSource)
    recipe = make_recipe(source, cohort, make_responses(cohort, source))
    build_piece(source.load_groups(folder), group, recipe)
