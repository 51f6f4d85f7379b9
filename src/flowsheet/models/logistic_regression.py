"""Logistic regression on the current row: the simplest model that gives a probability."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar

import numpy as np
import polars as pl
from pydantic import Field

from flowsheet.config import FloatRange, Space
from flowsheet.models._linear import explain_linear
from flowsheet.models._newton import logistic, minimise, predictor, sigmoid
from flowsheet.models._rows import InputParams, RowContributions, RowModel, Rows
from flowsheet.models.base import MODELS, Capabilities, Context, ModelFamily
from flowsheet.typing import Floats, Floats32


@MODELS.register("logistic_regression")
class LogisticRegression(RowModel):
    """logit P(y = 1) = b_0 + x b, with an L2 penalty on b but not on b_0.

    Minimises mean log loss + l2 |b|^2 / 2 by Newton's method until convergence: no seed, no early
    stopping.
    """

    title = "Logistic regression"

    class Params(InputParams):
        """Parameters."""

        l2: Annotated[float, Field(gt=0)] | None = None
        """Strength of the penalty, relative to the mean loss of a row; null: by the size of the
        cohort."""
        history: bool = False
        """Take the known past responses as inputs (unknown ones as 0)."""

    capabilities = Capabilities(
        family=ModelFamily.non_temporal, input_description="the current row"
    )
    space: ClassVar[Space] = {"l2": FloatRange(low=1e-5, high=1.0, log=True)}
    size_rules = MappingProxyType({"l2": lambda size: size.penalty})
    version = 4
    saved_version = 2

    coef: Floats  # (D + 1,) the intercept first

    def fit_rows(self, train: Rows, valid: Rows, context: Context) -> None:
        """Newton's method on all scored rows."""
        penalty = np.full(train.x.shape[1] + 1, self.params.l2 * len(train.y))
        penalty[0] = 0.0
        self.coef = minimise(train.x, train.y, logistic, penalty).coef

    def predict_rows(self, x: Floats32) -> Floats:
        """The logistic function of the linear predictor."""
        return sigmoid(predictor(x, self.coef))

    def explain_rows(self, x: Floats32) -> RowContributions:
        """Coefficient times the distance from the reference row."""
        return explain_linear(x, self.coef, self.reference, "logistic_regression")

    def write(self, folder: Path) -> dict[str, Any]:
        """The coefficients as JSON."""
        return {"coef": self.coef.tolist()}

    def read(self, folder: Path, state: dict[str, Any]) -> None:
        """The coefficients as JSON."""
        self.coef = np.array(state["coef"])

    def tables(self) -> dict[str, pl.DataFrame]:
        """``coefficients``: log odds ratio per unit of each (scaled) input."""
        if not self.fitted:
            return {}
        return {
            "coefficients": pl.DataFrame(
                {"term": ["intercept", *self.terms], "estimate": self.coef}
            )
        }
