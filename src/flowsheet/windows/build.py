"""Build sequences from the tables of an extract; training and serving use the same code."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from flowsheet.cohort.schema import Tables
from flowsheet.config import FeaturesConfig, TaskConfig
from flowsheet.windows.derived_features import DerivedFeatures
from flowsheet.windows.features import FeatureBlock, VariableFeatures
from flowsheet.windows.grid import Grid, sort_by_stay
from flowsheet.windows.history import build_response_history
from flowsheet.windows.past import PastFeatures
from flowsheet.windows.sequences import Feature, Sequences
from flowsheet.windows.statics import StaticFeatures, TimeFeatures, Vocabulary, collect_vocabulary
from flowsheet.windows.task import build_targets
from flowsheet.windows.treatments import TreatmentFeatures, find_rows_before_treatment

__all__ = ["VERSION", "build_sequences", "collect_vocabulary", "list_features"]

VERSION = 4
"""Increase it when the same tables and configuration give other numbers.

Cached windows of another version are built again.
"""

CHUNK_ROWS = 1 << 16
"""Rows that are built at a time; limits the memory that is needed beside the result."""


def make_blocks(
    features: FeaturesConfig, variables: Sequence[str], drugs: Sequence[str], vocabulary: Vocabulary
) -> list[FeatureBlock]:
    """The blocks of columns, in order.

    Args:
        features: Which features the configuration selects.
        variables: Catalogue variables that the extract can contain.
        drugs: Catalogue drugs that the extract can contain.
        vocabulary: Categories of each categorical column of the stays.

    Raises:
        UsageError: the features name an unknown variable, drug or static.
    """
    blocks: list[FeatureBlock] = [
        VariableFeatures(features, variables),
        TreatmentFeatures(features, drugs),
        StaticFeatures(features, vocabulary),
    ]
    if features.time:
        blocks.append(TimeFeatures())
    return [
        *blocks,
        PastFeatures(features, variables),
        DerivedFeatures(features, variables, drugs),
    ]


def list_features(
    features: FeaturesConfig, variables: Sequence[str], drugs: Sequence[str], vocabulary: Vocabulary
) -> tuple[Feature, ...]:
    """The F features of :func:`build_sequences`, without any data.

    Args:
        features: Which features the configuration selects.
        variables: Catalogue variables that the extract can contain.
        drugs: Catalogue drugs that the extract can contain.
        vocabulary: Categories of each categorical column of the stays.

    Raises:
        UsageError: the features name an unknown variable, drug or static.
    """
    blocks = make_blocks(features, variables, drugs, vocabulary)
    return tuple(feature for block in blocks for feature in block.features)


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
    """Put the tables on the grid of the task.

    The rows of a stay depend on the tables' rows of that stay alone, and ``x``, ``history`` and
    ``step`` of a row only on what was known at its prediction time p(k).

    Args:
        tables: The tables of S stays, with their rows in any order.
        task: The grid and the target.
        features: Which features to build.
        variables: Catalogue variables of the extract or of the saved model; others are ignored.
        drugs: Catalogue drugs of the extract or of the saved model; others are ignored.
        vocabulary: Categories of the extract or of the saved model, see ``collect_vocabulary``.
        chunk_rows: About how many rows to build at a time; does not change the result.

    Raises:
        UsageError: the features name an unknown variable, drug or static.
    """
    grid = Grid.from_stays(tables.stays, task)
    blocks = make_blocks(features, variables, drugs, vocabulary)
    edges = np.cumsum([0] + [len(block.features) for block in blocks])
    x = np.empty((grid.rows, int(edges[-1])), np.float32)
    tables = Tables(
        stays=sort_by_stay(tables.stays),
        events=sort_by_stay(tables.events),
        treatments=sort_by_stay(tables.treatments),
        episodes=sort_by_stay(tables.episodes),
    )
    for part, rows in grid.split(chunk_rows):
        part_tables = _select_stays(tables, part)
        for block, low, high in zip(blocks, edges[:-1], edges[1:], strict=True):
            block.fill(x[rows, low:high], part, part_tables)
    targets = build_targets(grid, tables.episodes, task)
    return Sequences(
        x=x,
        y=targets.y,
        scored=targets.scored,
        in_state=targets.in_state,
        history=build_response_history(grid, tables.episodes, task),
        step=grid.steps.astype(np.int32),
        offsets=grid.offsets,
        stay_id=grid.stay_id,
        subject_id=grid.subject_id,
        features=tuple(feature for block in blocks for feature in block.features),
        excluded=targets.excluded,
        before_treatment=find_rows_before_treatment(grid, tables.treatments),
    )


def _select_stays(tables: Tables, part: Grid) -> Tables:
    """The rows of the stays of a part; the tables are sorted by stay."""
    first = part.stay_id[0]
    last = part.stay_id[-1]

    def select(table: pl.DataFrame) -> pl.DataFrame:
        stay = table["stay_id"].to_numpy()
        start = int(np.searchsorted(stay, first, "left"))
        stop = int(np.searchsorted(stay, last, "right"))
        return table[start:stop]

    return Tables(
        stays=select(tables.stays),
        events=select(tables.events),
        treatments=select(tables.treatments),
        episodes=select(tables.episodes),
    )
