"""Build sequences from the tables of an extract; training and serving use the same code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import polars as pl

from flowsheet.cohort.schema import Tables
from flowsheet.config import FeaturesConfig, TaskConfig
from flowsheet.typing import Floats32
from flowsheet.windows.derived_features import DerivedFeatures
from flowsheet.windows.features import FeatureBlock, VariableFeatures
from flowsheet.windows.grid import Grid, sort_by_stay
from flowsheet.windows.history import build_response_history
from flowsheet.windows.past import PastFeatures
from flowsheet.windows.sequences import Feature, Sequences
from flowsheet.windows.shards import BLOCK_ROWS
from flowsheet.windows.statics import StaticFeatures, TimeFeatures, Vocabulary, collect_vocabulary
from flowsheet.windows.task import build_targets
from flowsheet.windows.treatments import TreatmentFeatures, find_rows_before_treatment

__all__ = ["VERSION", "build_sequences", "collect_vocabulary", "iter_sequences", "list_features"]

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
    recipe = _Recipe(task, features, variables, drugs, vocabulary)
    grid = Grid.from_stays(tables.stays, task)
    x = np.empty((grid.rows, recipe.width), np.float32)
    tables = _sort_tables(tables)
    for part, rows in grid.split(chunk_rows):
        recipe.fill(x[rows], part, _select_stays(tables, part))
    return recipe.assemble(x, grid, tables)


def iter_sequences(  # noqa: PLR0917 - as build_sequences
    tables: Tables,
    task: TaskConfig,
    features: FeaturesConfig,
    variables: Sequence[str],
    drugs: Sequence[str],
    vocabulary: Vocabulary,
    *,
    chunk_rows: int = BLOCK_ROWS,
) -> Iterator[Sequences]:
    """:func:`build_sequences` of consecutive stays, with about ``chunk_rows`` rows at a time.

    Args:
        tables: The tables of S stays, with their rows in any order.
        task: The grid and the target.
        features: Which features to build.
        variables: Catalogue variables of the extract.
        drugs: Catalogue drugs of the extract.
        vocabulary: Categories of the extract, see ``collect_vocabulary``.
        chunk_rows: Does not change the rows.

    Returns:
        At least one part, which is empty where no stay has rows.

    Raises:
        UsageError: the features name an unknown variable, drug or static.
    """
    recipe = _Recipe(task, features, variables, drugs, vocabulary)
    grid = Grid.from_stays(tables.stays, task)
    tables = _sort_tables(tables)
    parts = [part for part, _ in grid.split(chunk_rows)] or [grid]
    for part in parts:
        x = np.empty((part.rows, recipe.width), np.float32)
        part_tables = _select_stays(tables, part)
        recipe.fill(x, part, part_tables)
        yield recipe.assemble(x, part, part_tables)


class _Recipe:
    """How the columns, targets and other arrays of some rows are built."""

    def __init__(
        self,
        task: TaskConfig,
        features: FeaturesConfig,
        variables: Sequence[str],
        drugs: Sequence[str],
        vocabulary: Vocabulary,
    ) -> None:
        self.task = task
        self.blocks = make_blocks(features, variables, drugs, vocabulary)
        self.edges = np.cumsum([0] + [len(block.features) for block in self.blocks]).tolist()

    @property
    def width(self) -> int:
        """F, the number of columns."""
        return int(self.edges[-1])

    def fill(self, x: Floats32, grid: Grid, tables: Tables) -> None:
        """Write the inputs of the rows of a grid."""
        for block, (low, high) in zip(self.blocks, pairwise(self.edges), strict=True):
            block.fill(x[:, low:high], grid, tables)

    def assemble(self, x: Floats32, grid: Grid, tables: Tables) -> Sequences:
        """The sequences with these inputs."""
        targets = build_targets(grid, tables.episodes, self.task)
        return Sequences(
            x=x,
            y=targets.y,
            scored=targets.scored,
            in_state=targets.in_state,
            history=build_response_history(grid, tables.episodes, self.task),
            step=grid.steps.astype(np.int32),
            offsets=grid.offsets,
            stay_id=grid.stay_id,
            subject_id=grid.subject_id,
            features=tuple(feature for block in self.blocks for feature in block.features),
            excluded=targets.excluded,
            before_treatment=find_rows_before_treatment(grid, tables.treatments),
        )


def _sort_tables(tables: Tables) -> Tables:
    return Tables(
        stays=sort_by_stay(tables.stays),
        events=sort_by_stay(tables.events),
        treatments=sort_by_stay(tables.treatments),
        episodes=sort_by_stay(tables.episodes),
    )


def _select_stays(tables: Tables, part: Grid) -> Tables:
    """The rows of the stays of a part; the tables are sorted by stay."""
    first, last = (part.stay_id[0], part.stay_id[-1]) if len(part.stay_id) else (0, -1)

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
