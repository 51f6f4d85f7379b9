"""Model-ready sequences: flat rows with offsets, so that no stay is ever padded at rest."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal

import numpy as np

from flowsheet.state.json_files import read_json, write_json
from flowsheet.typing import Bools, Floats32, Ints, Ints32, Labels

FeatureKind = Literal["value", "missing", "since", "treatment", "static", "time"]


@dataclass(frozen=True)
class Feature:
    """One input column: its name, what kind of number it is, and the variable or drug it speaks of."""

    name: str
    kind: FeatureKind
    source: str


@dataclass(frozen=True)
class Sequences:
    """S stays of together N rows (one a step), F features.

    Rows are sorted by stay, then step; the rows of stay s are ``offsets[s]:offsets[s + 1]``. Inputs
    are as the record gave them: NaN where nothing is known. Row k holds only what was known at its
    prediction time.
    """

    x: Floats32  # (N, F)
    y: Labels  # (N,) 0 or 1; meaningless where `scored` is False
    scored: Bools  # (N,) the row is in the risk set and its target was observed
    in_state: Bools  # (N,) already septic when predicting: transitions in are `scored & ~in_state`
    # (N, P) column j: the response j steps back as known when predicting; NaN: before the stay, or not yet known
    history: Floats32
    step: Ints32  # (N,) k, counted from 1 at admission
    offsets: Ints  # (S + 1,)
    stay_id: Ints  # (S,)
    subject_id: Ints  # (S,)
    features: tuple[Feature, ...]

    def __len__(self) -> int:
        """The number of stays."""
        return len(self.stay_id)

    @property
    def rows(self) -> int:
        """N, the number of rows."""
        return len(self.step)

    @property
    def lengths(self) -> Ints:
        """Steps of each stay, shape (S,)."""
        return np.diff(self.offsets)

    @property
    def row_stay(self) -> Ints:
        """For each row the position of its stay, shape (N,)."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def columns(self, *kinds: FeatureKind) -> list[int]:
        """Positions of the features of these kinds."""
        return [i for i, feature in enumerate(self.features) if feature.kind in kinds]

    def take(self, stays: Ints | Bools) -> Sequences:
        """The chosen stays (positions or a mask over S), in the order given."""
        chosen = np.flatnonzero(stays) if stays.dtype == bool else stays
        lengths = self.lengths[chosen]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        rows = np.repeat(self.offsets[chosen] - offsets[:-1], lengths) + np.arange(offsets[-1])
        per_row = {name: getattr(self, name)[rows] for name in _PER_ROW}
        return replace(
            self,
            **per_row,
            offsets=offsets,
            stay_id=self.stay_id[chosen],
            subject_id=self.subject_id[chosen],
        )

    def select_subjects(self, subjects: Ints) -> Sequences:
        """The stays of these subjects."""
        return self.take(np.isin(self.subject_id, subjects))

    def save(self, folder: Path) -> None:
        """Write one ``.npy`` an array, and the features as JSON, into an existing folder."""
        for name in _ARRAYS:
            np.save(folder / f"{name}.npy", getattr(self, name), allow_pickle=False)
        write_json(folder / "features.json", [[f.name, f.kind, f.source] for f in self.features])

    @classmethod
    def load(cls, folder: Path) -> Sequences:
        """Map the arrays of :meth:`save` into memory, read-only; pages are read when touched."""
        arrays = {
            name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            for name in _ARRAYS
        }
        return cls(
            **arrays, features=tuple(Feature(*f) for f in read_json(folder / "features.json"))
        )


_PER_ROW = ("x", "y", "scored", "in_state", "history", "step")
_ARRAYS = tuple(f.name for f in fields(Sequences) if f.name != "features")
