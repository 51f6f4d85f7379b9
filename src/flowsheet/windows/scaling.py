"""Scaling of the inputs, fitted on the rows of the training subjects.

Each column is clipped to [low, high], possibly transformed to a log scale, shifted and divided. NaN
("not known") becomes 0, the centre of the column; in a ``since`` column, where it means "never
measured", it becomes the longest time. The parameters are fitted on the finite values of the
training rows, or of a fixed sample of ``SAMPLE_ROWS`` of them:

- a column of zeros and ones, and every ``missing`` indicator, stays as it is;
- low and high are the ``TAILS`` quantiles. In a sparse column, where more than half of the values
  are 0 and none is negative (doses, counts), they are 0 and the upper quantile of the positive
  values, so that the doses of a rare drug are not clipped to 0;
- log1p where no value is negative and the skewness of the clipped values is above ``SKEW``;
- then mean and standard deviation; in a sparse column 0 and the root mean square of the positive
  values, so that "not given" stays 0 and a usual dose is near 1;
- a constant column becomes 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from flowsheet.errors import CheckFailed
from flowsheet.numerics import TailTransform
from flowsheet.state.hashing import digest
from flowsheet.state.json_files import read_json, write_json
from flowsheet.typing import Bools, Floats, Floats32, Ints
from flowsheet.windows.sequences import Feature, Sequences
from flowsheet.windows.shards import ShardedInputs

VERSION = 2
"""Layout of the saved file."""
SAMPLE_ROWS = 100_000
CHUNK_ROWS = 1 << 15


_TINY = float(np.finfo(np.float32).tiny)
"""A smaller spread may be 0 in float32, by which nothing can be divided."""


@dataclass(frozen=True)
class _ColumnScale:
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    centre: float = 0.0
    spread: float = 1.0
    unknown: float = 0.0


@dataclass(frozen=True)
class Scaler:
    """Six parameters for each of the F columns, each of shape (F,)."""

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
        """Fit the parameters on these stays."""
        x = train.x
        if train.rows > SAMPLE_ROWS:
            sample = np.random.default_rng(0).choice(train.rows, SAMPLE_ROWS, replace=False)
            x = x[np.sort(sample)]
        x = np.asarray(x)
        scales = [_fit_column(feature, x[:, j]) for j, feature in enumerate(train.features)]
        names = [feature.name for feature in train.features]
        parameters = {
            field.name: [getattr(scale, field.name) for scale in scales]
            for field in fields(_ColumnScale)
        }
        return cls._from_lists(names, parameters)

    @classmethod
    def _from_lists(cls, names: list[str], parameters: Mapping[str, list[float]]) -> Self:
        arrays = (
            np.array(parameters[field.name], bool if field.name == "log" else np.float32)
            for field in fields(_ColumnScale)
        )
        return cls(tuple(names), *arrays)

    def transform(self, sequences: Sequences) -> Sequences:
        """The same sequences with scaled inputs: float32, finite everywhere.

        Raises:
            CheckFailed: the columns are not those of the training data.
        """
        names = tuple(feature.name for feature in sequences.features)
        if names != self.names:
            differences = sorted(set(names) ^ set(self.names))
            raise CheckFailed(
                "the input columns differ from those that the scaler was fitted on",
                where=", ".join(differences[:5]),
            )
        if isinstance(sequences.x, ShardedInputs):
            return replace(sequences, x=sequences.x.scaled(self))
        return replace(sequences, x=self.apply(sequences.x))

    def apply(self, x: Floats32) -> Floats32:
        """The scaled inputs of any rows (n, F); float32, finite everywhere."""
        out = np.empty_like(x, np.float32)
        for start in range(0, len(x), CHUNK_ROWS):
            rows = slice(start, start + CHUNK_ROWS)
            self._scale(x[rows], out[rows])
        return out

    @property
    def varying(self) -> Ints:
        """The columns that are not constant, which become 0."""
        is_constant = (self.low == self.high) & (self.low == self.centre) & (self.unknown == 0)
        return np.flatnonzero(~is_constant | self.log)

    def select(self, columns: Ints) -> Self:
        """The scaling of these columns alone."""
        names = tuple(self.names[i] for i in columns)
        parameters = {
            field.name: getattr(self, field.name)[columns] for field in fields(_ColumnScale)
        }
        return replace(self, names=names, **parameters)

    def _scale(self, x: Floats32, out: Floats32) -> None:
        np.clip(x, self.low, self.high, out=out)
        log_columns = np.flatnonzero(self.log)
        out[:, log_columns] = np.log1p(out[:, log_columns])
        out -= self.centre
        out /= self.spread
        np.copyto(out, self.unknown, where=np.isnan(out))

    def digest(self) -> str:
        """Of all parameters."""
        return digest(self._state())

    def save(self, path: Path) -> None:
        """Write as JSON; reading it back gives the same bits."""
        write_json(path, self._state())

    def _state(self) -> dict[str, Any]:
        parameters = {
            field.name: getattr(self, field.name).tolist() for field in fields(_ColumnScale)
        }
        return {"version": VERSION, "names": list(self.names), **parameters}

    @classmethod
    def load(cls, path: Path) -> Self:
        """The scaler that :meth:`save` wrote.

        Raises:
            CheckFailed: the file has another version of the layout.
        """
        content = read_json(path)
        if content["version"] != VERSION:
            raise CheckFailed(
                f"the scaler has layout {content['version']}, this release reads {VERSION}",
                where=str(path),
                todo="train the model again, or use the release that wrote it",
            )
        return cls._from_lists(content["names"], content)


def _fit_column(feature: Feature, values: Floats32) -> _ColumnScale:
    finite: Floats = values[np.isfinite(values)].astype(np.float64)
    if len(finite) == 0 or finite.min() == finite.max():
        return _scale_constant(finite)
    if feature.kind == "missing" or np.isin(finite, (0, 1)).all():
        return _ColumnScale(high=1.0)
    is_sparse = finite.min() == 0 and np.mean(finite == 0) > 0.5
    typical = finite[finite > 0] if is_sparse else finite
    tails = TailTransform.fit(typical)
    if tails.low == tails.high and not is_sparse:
        return _scale_constant(typical)
    transformed = tails(typical)
    if is_sparse:
        root_mean_square = float(np.sqrt(np.mean(transformed**2)))
        return _ColumnScale(high=tails.high, log=tails.log, spread=max(root_mean_square, _TINY))
    centre = float(transformed.mean())
    spread = max(float(transformed.std()), _TINY)
    longest = (float(transformed.max()) - centre) / spread
    unknown = longest if feature.kind == "since" else 0.0
    return _ColumnScale(tails.low, tails.high, tails.log, centre, spread, unknown)


def _scale_constant(values: Floats) -> _ColumnScale:
    value = float(values[0]) if len(values) else 0.0
    return _ColumnScale(low=value, high=value, centre=value)
