"""Inputs made comparable, from what the training subjects' rows look like.

Each column is cut to [low, high], may be put on a log scale, shifted and divided. NaN, "nothing
known", becomes 0, the column's centre; in a ``since`` column, where it means "never measured", it
becomes the longest wait. The numbers come from the training rows' finite values, of which a fixed
sample of ``SAMPLE_ROWS`` is looked at when there are more:

- a column of zeros and ones, and every ``missing`` indicator, stays as it is;
- low and high are the ``TAILS`` quantiles; where more than half of the values are 0 and none is
  below (doses, counts) they are 0 and the upper quantile of the rest, so that a rare drug is not
  cut away;
- log1p where no value is below 0 and the cut values are skewed by more than ``SKEW``;
- then mean and standard deviation; for a column of mostly zeros 0 and the root mean square of the
  rest, so that "not given" stays 0 and a usual dose is near 1;
- a column without any variation becomes 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Self

import numpy as np

from flowsheet.errors import CheckFailed
from flowsheet.state.json_files import read_json, write_json
from flowsheet.typing import Bools, Floats, Floats32
from flowsheet.windows.sequences import Feature, Sequences

VERSION = 2
SAMPLE_ROWS = 100_000
CHUNK_ROWS = 1 << 15
TAILS = (0.001, 0.999)
SKEW = 1.0


@dataclass(frozen=True)
class _Column:
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    centre: float = 0.0
    spread: float = 1.0
    unknown: float = 0.0


@dataclass(frozen=True)
class Scaler:
    """Six numbers a column, each of shape (F,)."""

    names: tuple[str, ...]
    low: Floats32
    high: Floats32
    log: Bools
    centre: Floats32
    spread: Floats32
    unknown: Floats32
    """What NaN becomes, on the new scale."""

    @classmethod
    def fit(cls, train: Sequences) -> Self:
        """Learn from these stays and no others."""
        x = train.x
        if train.rows > SAMPLE_ROWS:
            x = x[np.sort(np.random.default_rng(0).choice(train.rows, SAMPLE_ROWS, replace=False))]
        columns = [_learn(feature, x[:, j]) for j, feature in enumerate(train.features)]
        return cls._of(
            [feature.name for feature in train.features],
            {f.name: [getattr(column, f.name) for column in columns] for f in fields(_Column)},
        )

    @classmethod
    def _of(cls, names: list[str], columns: Mapping[str, list[float]]) -> Self:
        arrays = (
            np.array(columns[f.name], bool if f.name == "log" else np.float32)
            for f in fields(_Column)
        )
        return cls(tuple(names), *arrays)

    def transform(self, sequences: Sequences) -> Sequences:
        """The same sequences with scaled inputs: float32, finite everywhere.

        Raises:
            CheckFailed: the columns are not those that were learnt from.
        """
        names = tuple(feature.name for feature in sequences.features)
        if names != self.names:
            odd = sorted(set(names) ^ set(self.names))
            raise CheckFailed(
                "the inputs have other columns than the scaler was fitted on",
                where=", ".join(odd[:5]),
            )
        x = np.empty(sequences.x.shape, np.float32)
        for start in range(0, len(x), CHUNK_ROWS):
            rows = slice(start, start + CHUNK_ROWS)
            self._scale(sequences.x[rows], x[rows])
        return replace(sequences, x=x)

    def _scale(self, x: Floats32, out: Floats32) -> None:
        np.clip(x, self.low, self.high, out=out)
        logged = np.flatnonzero(self.log)
        out[:, logged] = np.log1p(out[:, logged])
        out -= self.centre
        out /= self.spread
        np.copyto(out, self.unknown, where=np.isnan(out))

    def save(self, path: Path) -> None:
        """Write as JSON; reading it back gives the same bits."""
        arrays = {f.name: getattr(self, f.name).tolist() for f in fields(_Column)}
        write_json(path, {"version": VERSION, "names": list(self.names), **arrays})

    @classmethod
    def load(cls, path: Path) -> Self:
        """The scaler that :meth:`save` wrote.

        Raises:
            CheckFailed: it was written by another version of this layout.
        """
        held = read_json(path)
        if held["version"] != VERSION:
            raise CheckFailed(
                f"the scaler has layout {held['version']}, this release reads {VERSION}",
                where=str(path),
                todo="train the model again, or use the release that made it",
            )
        return cls._of(held["names"], held)


def _learn(feature: Feature, values: Floats32) -> _Column:
    finite: Floats = values[np.isfinite(values)].astype(np.float64)
    if len(finite) == 0 or finite.min() == finite.max():
        return _constant(finite)
    if feature.kind == "missing" or np.isin(finite, (0, 1)).all():
        return _Column(high=1.0)
    sparse = finite.min() == 0 and np.mean(finite == 0) > 0.5
    told = finite[finite > 0] if sparse else finite
    low, high = np.quantile(told, TAILS)
    if low == high and not sparse:
        return _constant(told)
    cut = np.clip(told, low, high)
    log = bool(low >= 0 and _skew(cut) > SKEW)
    cut = np.log1p(cut) if log else cut
    if sparse:
        return _Column(0.0, high, log, 0.0, float(np.sqrt(np.mean(cut**2))))
    centre, spread = float(cut.mean()), float(cut.std())
    longest = (float(cut.max()) - centre) / spread
    return _Column(
        low, high, log, centre, spread, unknown=longest if feature.kind == "since" else 0.0
    )


def _constant(values: Floats) -> _Column:
    value = float(values[0]) if len(values) else 0.0
    return _Column(low=value, high=value, centre=value)


def _skew(values: Floats) -> float:
    spread = values.std()
    return float(np.mean(((values - values.mean()) / spread) ** 3)) if spread > 0 else 0.0
