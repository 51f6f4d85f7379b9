"""Windows in shards of stays, each a stage of its own with the key of its stays' records.

The stage of an extract's windows is an index over shards. A stay whose records are in a shard of
the same configuration is not built again, also where that shard is of another extract: windows of
an extract with a few new or changed stays take the time of these. What the windows contain does
not depend on the shards that their stays are in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from flowsheet.cohort.catalogue import own_concepts_key
from flowsheet.cohort.extract import Extract
from flowsheet.cohort.schema import Tables
from flowsheet.cohort.stay_digests import CONTENT, digest_stays
from flowsheet.cohort.time_grid import row_offsets
from flowsheet.config import FeaturesConfig, FrozenModel, TaskConfig
from flowsheet.lifecycle.experiment.extract_batches import STAYS_PER_BATCH, load_stays
from flowsheet.lifecycle.experiment.stage import Stage, find_stages, run_stage
from flowsheet.state.hashing import digest
from flowsheet.state.json_files import read_json, write_json
from flowsheet.windows.build import VERSION, iter_sequences, list_features
from flowsheet.windows.fill import ColumnFill
from flowsheet.windows.grid import Grid
from flowsheet.windows.sequences import Sequences, save_index, save_shard

LAYOUT = 1
"""Of the files of shards and their index: those of another layout are built again."""
SHARD = "shard"
"""Kind of the stages."""
ROWS_PER_SHARD = 1 << 17
"""At least this many, except where a shard has ``STAYS_PER_BATCH`` stays."""
_CONTENT_FILE = "content.parquet"
_CONFIGURATION_FILE = "configuration.json"
_PREFIX = 4
"""Letters of the key of a shard that are those of its configuration."""
_STAY = ("stay_id", CONTENT)
"""What a stay in a shard is found by."""


_CONTENT_SCHEMA: dict[str, pl.DataType] = {"stay_id": pl.Int64(), CONTENT: pl.UInt64()}
Stays = Sequence[tuple[int, int]]
"""Id and digest of each."""


class WindowsRecipe(FrozenModel):
    """What the rows of a stay depend on, beside its records."""

    task: TaskConfig
    features: FeaturesConfig
    variables: tuple[str, ...]
    drugs: tuple[str, ...]
    vocabulary: Mapping[str, Sequence[str]]

    @property
    def key(self) -> str:
        """Digest of the configuration, and of what the digests of stays depend on."""
        columns = self.model_dump(mode="json", exclude={"task": {"name"}, "features": {"name"}})
        versions = [VERSION, LAYOUT, pl.__version__]
        return digest({"versions": versions, "columns": columns, **own_concepts_key()})

    @property
    def shard_names(self) -> str:
        """Pattern of the names of its shards in the store; few others have such a name."""
        return f"{self.key[:_PREFIX]}*"

    @property
    def columns(self) -> dict[str, Any]:
        """What a served model needs to build the same columns again."""
        return self.model_dump(mode="json", include={"variables", "drugs", "vocabulary"})

    def build(self, tables: Tables) -> Iterator[Sequences]:
        """The sequences of stays, a part of them at a time."""
        return iter_sequences(
            tables, self.task, self.features, self.variables, self.drugs, self.vocabulary
        )


def build_window_index(extract: Extract, recipe: WindowsRecipe, folder: Path) -> tuple[Stage, ...]:
    """Write the index of an extract's windows, after its shards, and return these.

    Args:
        extract: the cohort.
        recipe: how the windows are built.
        folder: an existing folder.
    """
    wanted = _list_wanted(extract, recipe.task)
    shards = list(_find_shards(recipe))
    missing = _divide(_find_missing(wanted, shards))
    for stays in missing or [wanted.select(_STAY).clear()] * (not shards):
        shards.append(build_shard(extract, recipe, stays.rows()))
    located = wanted.join(_list_stays(shards), on=_STAY, how="left", maintain_order="left")
    used = located["shard"].unique().sort().to_list() or [0]
    located = located.with_columns(pl.col("shard").replace_strict(used, range(len(used))))
    chosen = [shards[i] for i in used]
    names = [str(Path("..", "..", "..", SHARD, Path(shard.path).name)) for shard in chosen]
    features = list_features(recipe.features, recipe.variables, recipe.drugs, recipe.vocabulary)
    save_index(folder, located, features, names)
    _gather_fill(chosen, located, len(features)).save(folder)
    return tuple(chosen)


def plan_shards(extract: Extract, recipe: WindowsRecipe) -> list[Stays]:
    """The stays of each shard that :func:`build_window_index` would build."""
    missing = _find_missing(_list_wanted(extract, recipe.task), list(_find_shards(recipe)))
    return [stays.rows() for stays in _divide(missing)]


def build_shard(extract: Extract, recipe: WindowsRecipe, stays: Stays) -> Stage:
    """Build some stays of an extract as one shard.

    Args:
        extract: the cohort.
        recipe: how the windows are built.
        stays: id and digest of each.
    """
    key = digest([recipe.key, stays])

    def build(folder: Path) -> None:
        fills = []

        def count(parts: Iterable[Sequences]) -> Iterator[Sequences]:
            for part in parts:
                fills.append(ColumnFill.count(part))
                yield part

        tables = load_stays(extract, [stay for stay, _ in stays])
        save_shard(folder, count(recipe.build(tables)))
        ColumnFill.concat(fills).save(folder)
        content = pl.DataFrame(stays, schema=_CONTENT_SCHEMA, orient="row")
        content.write_parquet(folder / _CONTENT_FILE)
        write_json(folder / _CONFIGURATION_FILE, recipe.key)

    return run_stage(SHARD, recipe.key[:_PREFIX] + key[_PREFIX:], build)


def _list_wanted(extract: Extract, task: TaskConfig) -> pl.DataFrame:
    """The stays with rows, by ``stay_id``: subject, number of rows and digest of the records."""
    grid = Grid.from_stays(extract.scan("stays").collect(), task)
    columns = {"stay_id": grid.stay_id, "subject_id": grid.subject_id, "rows": grid.lengths}
    digests = digest_stays(extract)
    return pl.DataFrame(columns).join(digests, on="stay_id", how="left", maintain_order="left")


def _find_shards(recipe: WindowsRecipe) -> Iterator[Stage]:
    """The shards of a configuration, for whatever extract they were built."""
    for stage in find_stages(SHARD, recipe.key[:_PREFIX]):
        if read_json(Path(stage.path) / _CONFIGURATION_FILE) == recipe.key:
            yield stage


def _list_stays(shards: Sequence[Stage]) -> pl.DataFrame:
    """Where each stay is: ``_STAY``, ``shard`` and ``frame``; one that is twice, first."""
    schema = pl.Schema(_CONTENT_SCHEMA | {"shard": pl.Int64(), "frame": pl.Int64()})
    tables = [pl.DataFrame(schema=schema)]
    for i, shard in enumerate(shards):
        stays = pl.read_parquet(Path(shard.path) / _CONTENT_FILE, glob=False)
        located = stays.with_columns(shard=i, frame=pl.int_range(pl.len()))
        tables.append(located.cast(schema))
    return pl.concat(tables).unique(_STAY, keep="first", maintain_order=True)


def _find_missing(wanted: pl.DataFrame, shards: Sequence[Stage]) -> pl.DataFrame:
    return wanted.join(_list_stays(shards), on=_STAY, how="anti", maintain_order="left")


def _divide(stays: pl.DataFrame) -> list[pl.DataFrame]:
    """``_STAY`` of the stays of each shard that is built, from all that are."""
    first_row = pl.col("rows").cum_sum() - pl.col("rows")
    shard = pl.struct(
        rows=first_row // ROWS_PER_SHARD, stays=pl.int_range(pl.len()) // STAYS_PER_BATCH
    )
    return stays.select(*_STAY, shard=shard.rle_id()).partition_by(
        "shard", maintain_order=True, include_key=False
    )


def _gather_fill(shards: Sequence[Stage], stays: pl.DataFrame, columns: int) -> ColumnFill:
    """What the shards say about these stays."""
    fills = [ColumnFill.load(Path(shard.path), columns) for shard in shards]
    first = row_offsets(np.array([len(fill.missing) for fill in fills]))
    position = first[stays["shard"].to_numpy()] + stays["frame"].to_numpy()
    return ColumnFill.concat(fills).take(position)
