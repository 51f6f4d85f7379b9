"""Naive Bayes: each input by itself says how much likelier the event is, and the words are added up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import polars as pl
from pydantic import Field

from flowsheet.config import FloatRange, FrozenModel, Space
from flowsheet.models._newton import chunks
from flowsheet.models._platt import Platt
from flowsheet.models._rows import RowModel, Rows
from flowsheet.models.base import MODELS, Capabilities, Context, ModelFamily
from flowsheet.numerics import TailTransform
from flowsheet.typing import Floats, Floats32, Labels


@dataclass(frozen=True)
class Column:
    """What one input says of the classes: two normal densities, or two shares of ones."""

    binary: bool = False
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    mean: tuple[float, float] = (
        0.0,
        0.0,
    )  # without and with the event; of a binary input the share of ones
    spread: tuple[float, float] = (1.0, 1.0)  # standard deviations

    @classmethod
    def fit(cls, values: Floats32, y: Labels, smoothing: float) -> Column:
        """From the known values; one with fewer than two in a class, or without variation, says nothing."""
        known = ~np.isnan(values)
        v, y = values[known].astype(np.float64), y[known]
        if min(np.count_nonzero(y == 0), np.count_nonzero(y == 1)) < 2 or v.min() == v.max():
            return cls()
        if np.isin(v, (0.0, 1.0)).all():
            shares = [
                (float(v[y == c].sum()) + 0.5) / (np.count_nonzero(y == c) + 1) for c in (0, 1)
            ]
            return cls(binary=True, mean=(shares[0], shares[1]))
        transform = TailTransform.fit(v)
        v = transform(v)
        parts = [v[y == c] for c in (0, 1)]
        extra = smoothing * v.var() + 1e-12
        spread = [float(np.sqrt(part.var() + extra)) for part in parts]
        mean = (float(parts[0].mean()), float(parts[1].mean()))
        return cls(
            False, transform.low, transform.high, transform.log, mean, (spread[0], spread[1])
        )

    def evidence(self, values: Floats32) -> Floats:
        """log p(value | event) - log p(value | none) of each row, 0 where the value is not known."""
        v = values.astype(np.float64)
        if self.binary:
            ones, zeros = (
                np.log(p[1] / p[0]) for p in (self.mean, (1 - self.mean[0], 1 - self.mean[1]))
            )
            return np.where(np.isnan(v), 0.0, np.where(v > 0.5, ones, zeros))
        v = TailTransform(self.low, self.high, self.log)(v)
        z = [(v - self.mean[c]) / self.spread[c] for c in (0, 1)]
        said = (z[0] ** 2 - z[1] ** 2) / 2 + np.log(self.spread[0] / self.spread[1])
        return np.where(np.isnan(v), 0.0, said)


@MODELS.register("naive_bayes")
class NaiveBayes(RowModel):
    """Gaussian naive Bayes that leaves out what is not known, Bernoulli for inputs of zeros and
    ones.

    An unknown value is neither imputed nor counted; that it is unknown speaks through its
    indicator. Values are cut to their 0.1% and 99.9% quantiles, and skewed ones without negatives
    are taken as log(1 + value). Inputs that say the same are counted twice, so the sum is far too
    sure: Platt's curve on the validation rows turns it into probabilities.
    """

    class Params(FrozenModel):
        """Parameters."""

        smoothing: Annotated[float, Field(ge=0)] = 0.01
        """Added to each class's variance, as a share of the input's own."""
        history: bool = False
        """Take the known past responses as inputs (unknown ones are left out)."""

    capabilities = Capabilities(
        family=ModelFamily.non_temporal, input_description="the current row", scaled=False
    )
    space: ClassVar[Space] = {"smoothing": FloatRange(low=1e-3, high=1.0, log=True)}

    learned: list[Column]
    platt: Platt

    def fit_rows(self, train: Rows, valid: Rows, context: Context) -> None:
        """One pass over each column, then the calibration."""
        self.learned = [Column.fit(v, train.y, self.params.smoothing) for v in train.x.T]
        self.platt = Platt.fit(*((self._scores(part.x), part.y) for part in (valid, train)))

    def predict_rows(self, x: Floats32) -> Floats:
        """The calibrated sum."""
        return self.platt(self._scores(x))

    def _scores(self, x: Floats32) -> Floats:
        parts = [sum(self._evidence(x[rows]), np.zeros(len(x[rows]))) for rows in chunks(len(x))]
        return np.concatenate(parts) if parts else np.empty(0)

    def _evidence(self, x: Floats32) -> Iterator[Floats]:
        return (column.evidence(v) for column, v in zip(self.learned, x.T, strict=True))

    def write(self, folder: Path) -> dict[str, Any]:
        """The densities and the calibration."""
        return {"columns": [vars(c) for c in self.learned], "platt": self.platt.state()}

    def read(self, folder: Path, state: dict[str, Any]) -> None:
        """The densities and the calibration."""
        self.learned = [
            Column(**{**column, "mean": tuple(column["mean"]), "spread": tuple(column["spread"])})
            for column in state["columns"]
        ]
        self.platt = Platt(**state["platt"])

    def tables(self) -> dict[str, pl.DataFrame]:
        """``densities``: what each input looks like without and with the event."""
        if not self.fitted:
            return {}
        rows = [
            {"term": name, **_row(column)}
            for name, column in zip(self.terms, self.learned, strict=True)
        ]
        return {"densities": pl.DataFrame(rows)}


def _row(column: Column) -> dict[str, Any]:
    pairs = {"mean": column.mean, "spread": column.spread}
    plain = {f.name: getattr(column, f.name) for f in fields(column) if f.name not in pairs}
    return plain | {
        f"{name}_{c}": pair[i]
        for name, pair in pairs.items()
        for i, c in enumerate(("without", "with"))
    }
