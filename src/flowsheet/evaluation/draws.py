"""The values of an evaluation's resamples, which can be computed in parts and joined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from flowsheet.evaluation.bootstrap import join_batches
from flowsheet.typing import Floats

METRIC = "metric"
CALIBRATION = "calibration"

_SCHEMA: dict[str, pl.DataType] = {
    "kind": pl.String(),
    "subset": pl.String(),
    "model": pl.String(),
    "repeat": pl.Int64(),
    "name": pl.String(),
    "values": pl.List(pl.Float64()),
}


class DrawKey(NamedTuple):
    """What was resampled."""

    kind: str
    """``METRIC`` or ``CALIBRATION``."""
    subset: str
    model: str
    repeat: int
    name: str
    """Of the metric; the number of the calibration curve's bin."""


Draws = Mapping[DrawKey, Floats]
"""The values in the resamples, shape (B,)."""


class EvaluationDraws(NamedTuple):
    """Everything that an evaluation resamples."""

    results: Draws
    """Of all subsets."""
    groups: Draws
    """Of the subgroups of patients who are not in the state at prediction."""

    def save(self, folder: Path) -> None:
        """Write the values into an existing folder."""
        for name, draws in self._asdict().items():
            rows = [(*key, values) for key, values in draws.items()]
            frame = pl.DataFrame(rows, schema=_SCHEMA, orient="row")
            frame.write_parquet(folder / f"{name}.parquet")

    @classmethod
    def load(cls, folder: Path) -> EvaluationDraws:
        """The values that :meth:`save` wrote, to the last bit."""
        return cls(*(_load(folder / f"{name}.parquet") for name in cls._fields))


def join_draws(parts: Sequence[EvaluationDraws]) -> EvaluationDraws:
    """All resamples of all models, from parts in which those of a model are in their order."""
    return EvaluationDraws(
        _join([part.results for part in parts]), _join([part.groups for part in parts])
    )


def _join(parts: Sequence[Draws]) -> Draws:
    keys = dict.fromkeys(key for part in parts for key in part)
    return {key: join_batches([part[key] for part in parts if key in part]) for key in keys}


def _load(file: Path) -> Draws:
    frame = pl.read_parquet(file, glob=False)
    values = frame["values"]
    keys = frame.drop("values").iter_rows()
    return {DrawKey(*key): values[i].to_numpy() for i, key in enumerate(keys)}
