from __future__ import annotations

import polars as pl
import pytest

from flowsheet.cohort.sources.base import Source
from flowsheet.cohort.sources.simulated import SimulatedWard
from flowsheet.cohort.sources.simulated.data_generating_process import WardOptions

TABLES = ("stays", "events", "treatments", "episodes")
SHORT_STAYS = {"min_steps": 5, "max_steps": 25}


def make_ward(**options: object) -> SimulatedWard:
    return SimulatedWard(None, WardOptions(**{**SHORT_STAYS, **options}))


def collect_tables(source: Source) -> dict[str, pl.DataFrame]:
    batches = list(source.batches())
    return {name: pl.concat(getattr(batch, name) for batch in batches) for name in TABLES}


@pytest.fixture(scope="package")
def ward_tables() -> dict[str, pl.DataFrame]:
    """The tables of a ward with 600 short stays."""
    return collect_tables(make_ward(stays=600))
