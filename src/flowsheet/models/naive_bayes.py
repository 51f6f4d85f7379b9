"""Naive Bayes: the evidence of each input for the event, added up as if inputs were independent."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import polars as pl
from pydantic import Field

from flowsheet.config import FloatRange, Space
from flowsheet.models._platt import Platt
from flowsheet.models._row_matrix import Matrix, iterate_chunks
from flowsheet.models._rows import InputParams, RowContributions, RowModel, Rows
from flowsheet.models.base import MODELS, Capabilities, Context, ModelFamily
from flowsheet.numerics import TailTransform
from flowsheet.typing import Floats, Floats32, Labels


@dataclass(frozen=True)
class Column:
    """The distribution of an input without and with the event: normals, or shares of ones."""

    binary: bool = False
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    mean: tuple[float, float] = (0.0, 0.0)
    """Without and with the event; of a binary input the share of ones."""
    spread: tuple[float, float] = (1.0, 1.0)
    """Standard deviations without and with the event."""

    @classmethod
    def fit(cls, values: Floats32, y: Labels, smoothing: float) -> Column:
        """Fit to the known values; fewer than two in a class, or equal ones, are no evidence.

        Args:
            values: The input (n,), NaN where unknown.
            y: Labels (n,).
            smoothing: Added to each variance, as a share of the variance of all values.
        """
        known = ~np.isnan(values)
        v, y = values[known].astype(np.float64), y[known]
        if min(np.count_nonzero(y == 0), np.count_nonzero(y == 1)) < 2 or v.min() == v.max():
            return cls()
        if np.isin(v, (0.0, 1.0)).all():
            return cls(binary=True, mean=(_share_of_ones(v[y == 0]), _share_of_ones(v[y == 1])))
        transform = TailTransform.fit(v)
        v = transform(v)
        without, with_event = v[y == 0], v[y == 1]
        extra = smoothing * v.var() + 1e-12
        return cls(
            low=transform.low,
            high=transform.high,
            log=transform.log,
            mean=(float(without.mean()), float(with_event.mean())),
            spread=(
                float(np.sqrt(without.var() + extra)),
                float(np.sqrt(with_event.var() + extra)),
            ),
        )

    def evidence(self, values: Floats32) -> Floats:
        """log p(value | event) - log p(value | none) of each row; 0 where the value is unknown."""
        v = values.astype(np.float64)
        if self.binary:
            of_one = np.log(self.mean[1] / self.mean[0])
            of_zero = np.log((1 - self.mean[1]) / (1 - self.mean[0]))
            return np.where(np.isnan(v), 0.0, np.where(v > 0.5, of_one, of_zero))
        v = TailTransform(self.low, self.high, self.log)(v)
        z = [(v - self.mean[c]) / self.spread[c] for c in (0, 1)]
        evidence = (z[0] ** 2 - z[1] ** 2) / 2 + np.log(self.spread[0] / self.spread[1])
        return np.where(np.isnan(v), 0.0, evidence)


def _share_of_ones(values: Floats) -> float:
    """Half a one and half a zero are added, so that no share is 0 or 1."""
    return (float(values.sum()) + 0.5) / (len(values) + 1)


@MODELS.register("naive_bayes")
class NaiveBayes(RowModel):
    """Gaussian naive Bayes that ignores unknown values; Bernoulli for inputs of zeros and ones.

    Unknown values are not imputed; that they are unknown is evidence through their indicators.
    Values are clipped to their 0.1% and 99.9% quantiles, and skewed ones without negatives become
    log(1 + value). The sum counts correlated inputs more than once and is overconfident: Platt's
    curve on the validation rows turns it into probabilities.
    """

    title = "Naive Bayes"

    class Params(InputParams):
        """Parameters."""

        smoothing: Annotated[float, Field(ge=0)] = 0.01
        """Added to each class's variance, as a share of the input's own."""
        history: bool = False
        """Take the known past responses as inputs (unknown ones are left out)."""

    capabilities = Capabilities(
        family=ModelFamily.non_temporal, input_description="the current row", scaled=False
    )
    space: ClassVar[Space] = {"smoothing": FloatRange(low=1e-3, high=1.0, log=True)}

    version = 2
    uses_reference = False
    column_fits: list[Column]
    platt: Platt

    def fit_rows(self, train: Rows, valid: Rows, context: Context) -> None:
        """Fit each column, then calibrate."""
        self.column_fits = [
            Column.fit(values, train.y, self.params.smoothing) for values in train.x.each_column()
        ]
        self.platt = Platt.fit(*((self._scores(part.x), part.y) for part in (valid, train)))

    def predict_rows(self, x: Floats32) -> Floats:
        """The calibrated sum of the evidence."""
        return self.platt(self._scores(x))

    def explain_rows(self, x: Floats32) -> RowContributions:
        """The evidence of each input times the slope of Platt's curve; unknown values add 0."""
        columns = zip(self.column_fits, x.T, strict=True)
        evidence = np.stack([column.evidence(values) for column, values in columns], axis=1)
        baseline = np.full(len(x), self.platt.intercept)
        values = self.platt.slope * evidence
        return RowContributions(baseline, baseline + self.platt.slope * self._scores(x), values)

    def _scores(self, x: Matrix) -> Floats:
        scores = np.zeros(len(x))
        for rows, part in iterate_chunks(x):
            for column, values in zip(self.column_fits, part.T, strict=True):
                scores[rows] += column.evidence(values)
        return scores

    def write(self, folder: Path) -> dict[str, Any]:
        """The densities and the calibration."""
        return {"columns": [vars(c) for c in self.column_fits], "platt": self.platt.state()}

    def read(self, folder: Path, state: dict[str, Any]) -> None:
        """The densities and the calibration."""
        self.column_fits = [
            Column(**{**column, "mean": tuple(column["mean"]), "spread": tuple(column["spread"])})
            for column in state["columns"]
        ]
        self.platt = Platt(**state["platt"])

    def tables(self) -> dict[str, pl.DataFrame]:
        """``densities``: the distribution of each input without and with the event."""
        if not self.fitted:
            return {}
        rows = [
            {"term": name, **_as_row(column)}
            for name, column in zip(self.terms, self.column_fits, strict=True)
        ]
        return {"densities": pl.DataFrame(rows)}


def _as_row(column: Column) -> dict[str, Any]:
    return {
        "binary": column.binary,
        "low": column.low,
        "high": column.high,
        "log": column.log,
        "mean_without": column.mean[0],
        "mean_with": column.mean[1],
        "spread_without": column.spread[0],
        "spread_with": column.spread[1],
    }
