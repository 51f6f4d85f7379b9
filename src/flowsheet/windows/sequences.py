"""Model-ready sequences: flat rows with offsets, stored without padding.

Stays are stored in shards, and an index says where each of them is::

    <shard>/x.zst, frames.npy   the inputs, see the module shards
    <shard>/rows.parquet        the other arrays with an entry a row
    <shard>/stays.parquet       the stays, in the order of their frames
    stays.parquet               the stays of the sequences: shard, position there and rows of each
    shards.json                 the folders of the shards, relative to that of the index
    features.json
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import polars as pl

from flowsheet.cohort.time_grid import row_offsets
from flowsheet.state.json_files import read_json, write_json
from flowsheet.typing import AnyArray, Bools, Floats, Floats32, Ints, Ints32, Labels
from flowsheet.windows.shards import BLOCK_ROWS, ShardedInputs, split_stays, write_shard

STAYS_FILE = "stays.parquet"
_ROWS_FILE = "rows.parquet"
_SHARDS_FILE = "shards.json"
_FEATURES_FILE = "features.json"

FeatureKind = Literal[
    "value",
    "missing",
    "since",
    "treatment",
    "static",
    "time",
    "window",
    "so_far",
    "average",
    "change",
    "bound",
    "derived",
]
FEATURE_KINDS: tuple[FeatureKind, ...] = get_args(FeatureKind)
"""Groups of input columns; a model may be given some of them."""


@dataclass(frozen=True)
class Feature:
    """One input column."""

    name: str
    kind: FeatureKind
    source: str
    """The variable, drug, static or derived number that the column is built from."""
    label: str = ""
    """In a clinician's words what the number is, where the name of the source does not say it."""


@dataclass(frozen=True)
class Sequences:
    """S stays with N rows in total, one for each step; F features.

    Rows are sorted by stay, then step; the rows of stay s are ``offsets[s]:offsets[s + 1]``. Inputs
    are not scaled or imputed: NaN where nothing is known. A row contains only what was known at its
    prediction time.
    """

    x: Floats32 | ShardedInputs  # (N, F); decoded on reading where the stays are in shards
    y: Labels  # (N,) 0 or 1; meaningless where `scored` is False
    scored: Bools  # (N,) the row is in the risk set and its target was observed
    in_state: Bools  # (N,) septic at the prediction; new onsets are among `scored & ~in_state`
    history: Floats32  # (N, P) column j: the response j steps back, see the module history
    step: Ints32  # (N,) k, counted from 1 at admission
    offsets: Ints  # (S + 1,)
    stay_id: Ints  # (S,)
    subject_id: Ints  # (S,)
    features: tuple[Feature, ...]
    excluded: Labels | None = None
    """(N,) why the row is not scored, an ``Exclusion`` of the module task; None: not known."""
    before_treatment: Bools | None = None
    """(N,) no anti-infective exposure is known at the prediction; None: not known."""
    weight: Floats | None = None
    """(N,) how many rows the row stands for in metrics, see the module censoring; None: one."""

    def __len__(self) -> int:
        """The number of stays."""
        return len(self.stay_id)

    @property
    def rows(self) -> int:
        """N, the number of rows."""
        return len(self.step)

    @property
    def lengths(self) -> Ints:
        """Rows of each stay, shape (S,)."""
        return np.diff(self.offsets)

    @property
    def row_stay(self) -> Ints:
        """The position of the stay of each row, shape (N,)."""
        return np.repeat(np.arange(len(self)), self.lengths)

    @cached_property
    def varying(self) -> Bools:
        """Which inputs are not the same, or unknown, in all rows, shape (F,)."""
        first = np.asarray(self.x[:1])
        varying = np.zeros(len(self.features), np.bool_)
        for _, block in self.blocks():
            x = np.asarray(block.x)
            varying |= ((x != first) & ~(np.isnan(x) & np.isnan(first))).any(axis=0)
        return varying

    def columns(self, *kinds: FeatureKind) -> list[int]:
        """Positions of the features of these kinds."""
        return [i for i, feature in enumerate(self.features) if feature.kind in kinds]

    def select_features(self, columns: list[int]) -> Sequences:
        """With the features at these positions alone."""
        if len(columns) == len(self.features):
            return self
        features = tuple(self.features[i] for i in columns)
        if isinstance(self.x, ShardedInputs):
            return replace(self, x=self.x.select(columns), features=features)
        return replace(self, x=np.take(self.x, columns, axis=1), features=features)

    def take(self, stays: Ints | Bools) -> Sequences:
        """The stays at these positions, in that order, or the stays of a mask over S."""
        position: Ints = np.flatnonzero(stays) if stays.dtype == bool else stays.astype(np.int64)
        lengths = self.lengths[position]
        offsets = row_offsets(lengths)
        rows = np.repeat(self.offsets[position] - offsets[:-1], lengths) + np.arange(offsets[-1])
        per_row = {name: array[rows] for name, array in self._arrays(_PER_ROW).items()}
        return replace(
            self,
            x=self.x.take(position) if isinstance(self.x, ShardedInputs) else self.x[rows],
            **per_row,
            offsets=offsets,
            stay_id=self.stay_id[position],
            subject_id=self.subject_id[position],
        )

    def select_subjects(self, subjects: Ints) -> Sequences:
        """The stays of these subjects."""
        return self.take(np.isin(self.subject_id, subjects))

    def blocks(self, rows: int = BLOCK_ROWS) -> Iterator[tuple[slice, Sequences]]:
        """All stays in order, about so many rows at a time: (their rows, the stays in memory).

        Where the inputs are in memory already, nothing is copied.
        """
        for first, last in split_stays(self.offsets, rows):
            start = self.offsets[first]
            chosen = slice(int(start), int(self.offsets[last]))
            x = self.x
            block = replace(
                self,
                x=x.read_stays(range(first, last)) if isinstance(x, ShardedInputs) else x[chosen],
                offsets=self.offsets[first : last + 1] - start,
                stay_id=self.stay_id[first:last],
                subject_id=self.subject_id[first:last],
            )
            per_row = {name: array[chosen] for name, array in self._arrays(_PER_ROW).items()}
            yield chosen, replace(block, **per_row)  # type: ignore[arg-type]

    def in_memory(self) -> Sequences:
        """With all inputs decoded."""
        return replace(self, x=np.asarray(self.x)) if isinstance(self.x, ShardedInputs) else self

    @classmethod
    def concat(cls, parts: Iterable[Sequences]) -> Sequences:
        """The stays of all parts, which have the same features, in memory."""
        loaded = [part.in_memory() for part in parts]
        first, names = loaded[0], ("x", *_PER_ROW, "stay_id", "subject_id")
        arrays: dict[str, Any] = {
            name: np.concatenate([getattr(part, name) for part in loaded])
            for name in first._arrays(names)
        }
        lengths = np.concatenate([part.lengths for part in loaded])
        return replace(first, **arrays, offsets=row_offsets(lengths))

    def save(self, folder: Path) -> None:
        """Write the sequences into an existing folder, as one shard and its index."""
        shard = folder / "shard"
        shard.mkdir()
        save_shard(shard, [self])
        stays = _tabulate_stays(self).with_columns(shard=0, frame=pl.int_range(pl.len()))
        save_index(folder, stays, self.features, [shard.name])

    @classmethod
    def load(cls, folder: Path) -> Sequences:
        """Read what :meth:`save` or :func:`save_index` wrote; inputs are decoded when accessed."""
        stays = pl.read_parquet(folder / STAYS_FILE, glob=False)
        features = tuple(Feature(*columns) for columns in read_json(folder / _FEATURES_FILE))
        x = ShardedInputs(
            folders=tuple((folder / name).resolve() for name in read_json(folder / _SHARDS_FILE)),
            shard=stays["shard"].to_numpy(),
            frame=stays["frame"].to_numpy(),
            offsets=row_offsets(stays["rows"].to_numpy()),
            stored_columns=len(features),
        )
        return cls(
            x=x,
            **_load_rows(x),
            offsets=x.offsets,
            stay_id=stays["stay_id"].to_numpy(),
            subject_id=stays["subject_id"].to_numpy(),
            features=features,
        )

    def _arrays(self, names: Iterable[str]) -> dict[str, AnyArray]:
        """The arrays of these names that the sequences have."""
        arrays = {name: getattr(self, name) for name in names}
        return {name: array for name, array in arrays.items() if array is not None}


_OPTIONAL = ("excluded", "before_treatment", "weight")
_PER_ROW = ("y", "scored", "in_state", "history", "step", *_OPTIONAL)


def save_shard(folder: Path, parts: Iterable[Sequences]) -> None:
    """Write the stays of some sequences, of which one is needed at a time, as one shard.

    Args:
        folder: an existing folder.
        parts: at least one, with the same features.
    """
    rows = []
    stays = []

    def iter_inputs() -> Iterator[Floats32]:
        for part in parts:
            rows.append(_tabulate_rows(part))
            stays.append(_tabulate_stays(part))
            for first, last in pairwise(part.offsets.tolist()):
                yield part.x[first:last]

    write_shard(folder, iter_inputs())
    pl.concat(rows).write_parquet(folder / _ROWS_FILE)
    pl.concat(stays).write_parquet(folder / STAYS_FILE)


def save_index(
    folder: Path, stays: pl.DataFrame, features: Sequence[Feature], shards: Sequence[str]
) -> None:
    """Write which stays sequences have, and where they are.

    Args:
        folder: an existing folder.
        stays: ``stay_id``, ``subject_id``, ``rows``, ``shard`` (a position in ``shards``) and
            ``frame`` (the position in the shard) of each, in the order of the sequences.
        features: the F features.
        shards: folders of :func:`save_shard`, relative to ``folder``.
    """
    columns = stays.select(
        pl.col("stay_id", "subject_id", "rows"), pl.col("shard", "frame").cast(pl.Int64)
    )
    columns.write_parquet(folder / STAYS_FILE)
    write_json(folder / _SHARDS_FILE, list(shards))
    write_json(folder / _FEATURES_FILE, [[f.name, f.kind, f.source, f.label] for f in features])


def _tabulate_stays(sequences: Sequences) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "stay_id": np.asarray(sequences.stay_id),
            "subject_id": np.asarray(sequences.subject_id),
            "rows": sequences.lengths,
        }
    )


def _tabulate_rows(sequences: Sequences) -> pl.DataFrame:
    """The arrays with an entry a row; ``history`` has a column for each lag."""
    arrays = sequences._arrays(_PER_ROW)
    history = arrays.pop("history")
    lags = {f"history_{lag}": history[:, lag] for lag in range(history.shape[1])}
    return pl.DataFrame({name: np.asarray(array) for name, array in {**arrays, **lags}.items()})


def _load_rows(x: ShardedInputs) -> dict[str, AnyArray]:
    """The arrays of :func:`_tabulate_rows` for the rows of these inputs, shard by shard."""
    arrays: dict[str, AnyArray] = {}
    lengths = np.diff(x.offsets)
    for shard, folder in enumerate(x.folders):
        in_shard = np.flatnonzero(x.shard == shard)
        rows = pl.read_parquet(folder / STAYS_FILE, columns=["rows"], glob=False)["rows"]
        first_row = row_offsets(rows.to_numpy())
        source = _expand(first_row[x.frame[in_shard]], lengths[in_shard])
        target = _expand(x.offsets[in_shard], lengths[in_shard])
        table = pl.read_parquet(folder / _ROWS_FILE, glob=False)
        for name, values in _split_columns(table).items():
            if name not in arrays:
                arrays[name] = np.empty((len(x), *values.shape[1:]), values.dtype)
            arrays[name][target] = values[source]
    return arrays


def _split_columns(table: pl.DataFrame) -> dict[str, AnyArray]:
    arrays = {name: table[name].to_numpy() for name in table.columns if name in _PER_ROW}
    lags = table.columns[len(arrays) :]
    no_lags = np.empty((len(table), 0), np.float32)
    return {**arrays, "history": table.select(lags).to_numpy() if lags else no_lags}


def _expand(first: Ints, lengths: Ints) -> Ints:
    """The rows of stays, from their first rows and numbers of rows."""
    return np.repeat(first - row_offsets(lengths)[:-1], lengths) + np.arange(lengths.sum())
