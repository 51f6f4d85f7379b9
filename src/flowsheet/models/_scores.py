"""Base of the bedside scores: published points for what is known at each row.

Each component grades the last known values of a row. What is not known counts as normal, as it does
at the bedside, and so does a component whose variables the extract does not have: the fit reports
which ones. A score with too few of its components does not apply.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl

from flowsheet.config import FrozenModel, ModelConfig
from flowsheet.errors import CheckFailed
from flowsheet.models._platt import Platt
from flowsheet.models._rows import RowContributions, RowModel, Rows
from flowsheet.models.base import Capabilities, Context, ModelFamily
from flowsheet.numerics import log_odds
from flowsheet.typing import AnyArray, Floats, Floats32, Ints
from flowsheet.windows.points import Component
from flowsheet.windows.sequences import Feature, Sequences

_PREFERRED = ("last", "mean", "max", "min")
"""Of several columns of a variable, the one that is graded."""
_ROUNDING = 4
"""Decimals of a value: inputs are float32, in which 1.2 is not the bound 1.2."""


@dataclass(frozen=True)
class _Column:
    """Where a variable or drug of a score is found among the inputs."""

    variable: str
    position: int


class BedsideScore(RowModel):
    """A published score; its risk is a logistic function of its points.

    A subclass defines ``components`` and ``cut_off``. With ``recalibrated`` the logistic function
    is fitted to the training rows; it ranks as the score does. Without, its slope is 1, and the
    risk is above 0.5 from the published cut-off on.
    """

    class Params(FrozenModel):
        """Parameters."""

        recalibrated: bool = True
        """Fit the risk by points; otherwise the published cut-off is a risk of 0.5."""

    capabilities = Capabilities(
        family=ModelFamily.floor, input_description="published points", scaled=False
    )
    version = 2
    uses_reference: ClassVar[bool] = False
    components: ClassVar[tuple[Component, ...]]
    cut_off: ClassVar[float]
    """Points from which on the published score is positive."""
    least_components: ClassVar[int]
    """With fewer gradable components the score does not apply."""
    unit: ClassVar[float] = 1.0
    """Steps of the score."""
    platt: Platt
    missing: tuple[str, ...]
    """Components that count as normal, because the extract has none of their variables."""

    @classmethod
    def describe_title(cls, config: ModelConfig) -> str:
        """The published score, or its points made a risk anew."""
        is_recalibrated = config.params.get("recalibrated", True)
        return f"{cls.title}, recalibrated" if cls.title and is_recalibrated else cls.title

    def matrix(self, sequences: Sequences, rows: Ints | None = None) -> Floats32:
        """The points of each component, shared equally among its variables in the extract."""
        chosen: Any = slice(None) if rows is None else rows
        found = _find_columns(sequences.features, self._variables)
        x = sequences.x
        values = {c.variable: _round(x[chosen, c.position]) for c in found}
        n_rows = len(sequences.step[chosen])
        absent = np.full(n_rows, np.nan)
        graded = {v: values.get(v, absent) for v in self._variables}
        columns = []
        for component, variables in self._list_shares(found):
            columns += [component.grade(graded) / len(variables)] * len(variables)
        if not columns:
            return np.zeros((n_rows, 0), np.float32)
        return np.stack(columns, axis=1).astype(np.float32)

    def columns(self, sequences: Sequences) -> list[str]:
        """Component and variable of each column."""
        found = _find_columns(sequences.features, self._variables)
        return [
            f"{component.name}:{column.variable}"
            for component, columns in self._list_shares(found)
            for column in columns
        ]

    def origins(self, sequences: Sequences) -> Ints:
        """The input of the variable of each column."""
        found = _find_columns(sequences.features, self._variables)
        positions = [c.position for _, columns in self._list_shares(found) for c in columns]
        return np.array(positions, np.int64)

    @property
    def _variables(self) -> tuple[str, ...]:
        names = [name for component in self.components for name in component.variables]
        return tuple(dict.fromkeys(names))

    def _list_shares(self, found: Sequence[_Column]) -> list[tuple[Component, list[_Column]]]:
        """The gradable components, each with its columns."""
        available = {column.variable for column in found}
        return [
            (component, [c for c in found if c.variable in component.variables])
            for component in self.components
            if component.is_gradable(available)
        ]

    def fit(self, train: Sequences, valid: Sequences, context: Context) -> None:
        """Check that the score applies, and fit the risk by points.

        Raises:
            CheckFailed: the extract has too few of the score's variables.
        """
        found = _find_columns(train.features, self._variables)
        available = _find_measured(train, found)
        gradable = [c.name for c in self.components if c.is_gradable(available)]
        self.missing = tuple(c.name for c in self.components if c.name not in gradable)
        if len(gradable) < self.least_components:
            absent = sorted(set(self._variables) - available)
            raise CheckFailed(
                f"too few variables: {len(gradable)} of the score's {len(self.components)} "
                f"components can be graded, at least {self.least_components} are needed",
                where=f"{type(self).__name__}; not among the inputs: {', '.join(absent)}",
                todo="leave the score out, or use features with these variables",
            )
        if self.missing:
            context.progress(
                f"not in the extract, counted as normal: {', '.join(self.missing)} "
                f"({len(self.missing)} of {len(self.components)} components)"
            )
        super().fit(train, valid, context)

    def fit_rows(self, train: Rows, valid: Rows, context: Context) -> None:
        """The logistic function of the points."""
        if not self.params.recalibrated:
            self.platt = Platt(self.unit / 2 - self.cut_off, 1.0)
            return
        self.platt = Platt.fit((_total(np.asarray(train.x)), train.y))
        if self.platt == Platt(0.0, 1.0):  # more points, less risk
            self.platt = Platt(float(log_odds(np.array(self.rate))), 1e-6)

    def predict_rows(self, x: Floats32) -> Floats:
        """The risk by points."""
        return self.platt(_total(x))

    def explain_rows(self, x: Floats32) -> RowContributions:
        """What the points of each component add, against a patient without any."""
        points = x.astype(np.float64)
        sums = points.sum(axis=1)
        rounded = np.divide(_total(x), sums, out=np.ones(len(x)), where=sums > 0)
        values = self.platt.slope * points * rounded[:, None]
        baseline = np.full(len(x), self.platt.intercept)
        return RowContributions(baseline, baseline + values.sum(axis=1), values)

    def write(self, folder: Path) -> dict[str, Any]:
        """The logistic function, and what counts as normal."""
        return {"platt": self.platt.state(), "missing": list(self.missing)}

    def read(self, folder: Path, state: dict[str, Any]) -> None:
        """Restore what :meth:`write` returned."""
        self.platt, self.missing = Platt(**state["platt"]), tuple(state["missing"])

    def score(self, sequences: Sequences) -> Floats:
        """The points of each row, shape (N,)."""
        blocks = (self.matrix(stays) for _, stays in sequences.blocks())
        return np.concatenate([np.empty(0), *(_total(points) for points in blocks)])

    def tables(self) -> dict[str, pl.DataFrame]:
        """``components``: which ones the extract has, and which count as normal."""
        if not self.fitted:
            return {}
        names = [component.name for component in self.components]
        return {
            "components": pl.DataFrame(
                {
                    "component": names,
                    "variables": [", ".join(c.variables) for c in self.components],
                    "counted_as_normal": [name in self.missing for name in names],
                }
            )
        }


def _round(values: AnyArray) -> Floats:
    return np.asarray(np.round(values.astype(np.float64), _ROUNDING))


def _total(points: Floats32) -> Floats:
    """The points of all columns together, shape (n,)."""
    return _round(points.sum(axis=1, dtype=np.float64))


def _find_measured(sequences: Sequences, found: Sequence[_Column]) -> set[str]:
    """The variables that have a value in some row."""
    positions = [column.position for column in found]
    is_measured = np.zeros(len(found), bool)
    for _, stays in sequences.blocks():
        is_measured |= np.isfinite(stays.x[:, positions]).any(axis=0)
    return {column.variable for column, is_any in zip(found, is_measured, strict=True) if is_any}


def _find_columns(features: tuple[Feature, ...], variables: tuple[str, ...]) -> list[_Column]:
    """The input of each variable: its last value, and a drug's ``on`` or dose."""
    found = []
    for variable in variables:
        positions = {
            feature.name.removeprefix(f"{variable}_"): i
            for i, feature in enumerate(features)
            if feature.source == variable and feature.kind in {"value", "treatment"}
        }
        for column in (*_PREFERRED, "on", "dose", variable):
            if column in positions:
                found.append(_Column(variable, positions[column]))
                break
    return found
