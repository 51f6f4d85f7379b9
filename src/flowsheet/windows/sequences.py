"""Model-ready sequences: flat rows with offsets, stored without padding."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from flowsheet.cohort.time_grid import row_offsets
from flowsheet.state.json_files import read_json, write_json
from flowsheet.typing import AnyArray, Bools, Floats, Floats32, Ints, Ints32, Labels
from flowsheet.windows.shards import BLOCK_ROWS, ShardedInputs, split_stays

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

    def columns(self, *kinds: FeatureKind) -> list[int]:
        """Positions of the features of these kinds."""
        return [i for i, feature in enumerate(self.features) if feature.kind in kinds]

    def select_features(self, columns: list[int]) -> Sequences:
        """With the features at these positions alone."""
        if len(columns) == len(self.features):
            return self
        features = tuple(self.features[i] for i in columns)
        x = self.x.select(columns) if isinstance(self.x, ShardedInputs) else self.x[:, columns]
        return replace(self, x=x, features=features)

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

    def save(self, folder: Path) -> None:
        """Write each array as ``.npy`` and the features as JSON into an existing folder."""
        for name, array in self._arrays(_ARRAYS).items():
            np.save(folder / f"{name}.npy", array, allow_pickle=False)
        features = [[f.name, f.kind, f.source, f.label] for f in self.features]
        write_json(folder / "features.json", features)

    @classmethod
    def load(cls, folder: Path) -> Sequences:
        """Map the arrays of ``save`` into memory, read-only; pages are read when accessed."""
        arrays = {
            name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            for name in _ARRAYS
            if name not in _OPTIONAL or (folder / f"{name}.npy").exists()
        }
        features = tuple(Feature(*columns) for columns in read_json(folder / "features.json"))
        return cls(**arrays, features=features)

    def _arrays(self, names: Iterable[str]) -> dict[str, AnyArray]:
        """The arrays of these names that the sequences have."""
        arrays = {name: getattr(self, name) for name in names}
        return {name: array for name, array in arrays.items() if array is not None}


_OPTIONAL = ("excluded", "before_treatment", "weight")
_PER_ROW = ("y", "scored", "in_state", "history", "step", *_OPTIONAL)
_ARRAYS = tuple(field.name for field in fields(Sequences) if field.name != "features")
