"""From the extract's tables to sequences: the one way, for training and for serving."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from flowsheet.cohort.schema import Tables
from flowsheet.config import FeaturesConfig, TaskConfig
from flowsheet.windows.features import Block, Values
from flowsheet.windows.grid import Grid, by_stay
from flowsheet.windows.history import response_history
from flowsheet.windows.sequences import Feature, Sequences
from flowsheet.windows.statics import Statics, Time, Vocabulary, collect_vocabulary
from flowsheet.windows.task import targets
from flowsheet.windows.treatments import Treatments

__all__ = ["VERSION", "build_sequences", "collect_vocabulary", "list_features"]

VERSION = 1
"""Raise it when the same tables and configuration give other numbers: cached windows are then made anew."""

CHUNK_ROWS = 1 << 16
"""Rows that are worked on at a time; bounds the memory beside the result."""


def blocks(
    features: FeaturesConfig, variables: Sequence[str], drugs: Sequence[str], vocabulary: Vocabulary
) -> list[Block]:
    """The blocks of columns, in order.

    Raises:
        UsageError: the features want a variable, drug or static that there is not.
    """
    parts: list[Block] = [
        Values(features, variables),
        Treatments(features, drugs),
        Statics(features, vocabulary),
    ]
    return [*parts, Time()] if features.time else parts


def list_features(
    features: FeaturesConfig, variables: Sequence[str], drugs: Sequence[str], vocabulary: Vocabulary
) -> tuple[Feature, ...]:
    """The F features of :func:`build_sequences`, without any data."""
    return tuple(
        feature
        for block in blocks(features, variables, drugs, vocabulary)
        for feature in block.features
    )


def build_sequences(  # noqa: PLR0917 - the choices, then the columns that they fix
    tables: Tables,
    task: TaskConfig,
    features: FeaturesConfig,
    variables: Sequence[str],
    drugs: Sequence[str],
    vocabulary: Vocabulary,
    *,
    chunk_rows: int = CHUNK_ROWS,
) -> Sequences:
    """Put the tables, in any order of rows, on the task's grid.

    ``variables``, ``drugs`` and ``vocabulary`` (see ``collect_vocabulary``) come from the extract
    or the saved model and fix the columns; facts about anything else are not used. A stay's rows
    depend on its own facts alone, and ``x``, ``history`` and ``step`` of a row only on facts with
    known_at <= p(k).

    Raises:
        UsageError: the features want a variable, drug or static that there is not.
    """
    grid = Grid.from_stays(tables.stays, task)
    parts = blocks(features, variables, drugs, vocabulary)
    widths = np.cumsum([0] + [len(block.features) for block in parts])
    x = np.empty((grid.rows, int(widths[-1])), np.float32)
    tables = Tables(
        *(by_stay(t) for t in (tables.stays, tables.events, tables.treatments, tables.episodes))
    )
    for part, rows in grid.parts(chunk_rows):
        some = _of_stays(tables, part)
        for block, low, high in zip(parts, widths[:-1], widths[1:], strict=True):
            block.fill(x[rows, low:high], part, some)
    asked = targets(grid, tables.episodes, task)
    return Sequences(
        x=x,
        y=asked.y,
        scored=asked.scored,
        in_state=asked.in_state,
        history=response_history(grid, tables.episodes, task),
        step=grid.steps.astype(np.int32),
        offsets=grid.offsets,
        stay_id=grid.stay_id,
        subject_id=grid.subject_id,
        features=tuple(feature for block in parts for feature in block.features),
    )


def _of_stays(tables: Tables, part: Grid) -> Tables:
    """The rows of a part's stays, out of tables sorted by stay."""

    def cut(table: pl.DataFrame) -> pl.DataFrame:
        stay = table["stay_id"].to_numpy()
        low, high = (
            np.searchsorted(stay, part.stay_id[0], "left"),
            np.searchsorted(stay, part.stay_id[-1], "right"),
        )
        return table[int(low) : int(high)]

    return Tables(
        cut(tables.stays), cut(tables.events), cut(tables.treatments), cut(tables.episodes)
    )
