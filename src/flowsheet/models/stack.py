"""A penalised logistic regression on other models' log odds."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from flowsheet.config import FloatRange, Space
from flowsheet.models._ensemble import Ensemble
from flowsheet.models._newton import logistic, minimise
from flowsheet.models.base import MODELS
from flowsheet.typing import Floats
from flowsheet.windows.sequences import Sequences


@MODELS.register("stack")
class Stack(Ensemble):
    """Weights that are fitted on the validation subjects, on whom no member was fitted.

    Stacked generalisation (Wolpert 1992, doi:10.1016/S0893-6080(05)80023-1) with the penalty of Le
    Cessie and van Houwelingen (1992, doi:10.2307/2347628) towards equal weights, whose sum is free.
    Without validation rows of both classes it is the average.
    """

    title = "Stacked models"

    class Params(Ensemble.Params):
        """Parameters."""

        l2: Annotated[float, Field(ge=0)] = 10.0
        """Penalty on the squared differences from equal weights."""

    space: ClassVar[Space] = {"l2": FloatRange(low=1.0, high=100.0, log=True)}

    def fit_weights(self, valid: Sequences) -> tuple[float, Floats]:
        """Newton's method on the scored validation rows."""
        n_members = len(self.members)
        equal = np.full(n_members, 1 / n_members)
        y = np.asarray(valid.y[valid.scored])
        if not 0 < y.sum() < len(y):
            return 0.0, equal
        columns = self.list_log_odds(valid)[valid.scored]
        average = columns.mean(axis=1, keepdims=True)
        penalty = np.concatenate([[0.0, 0.0], np.full(n_members, self.params.l2)])
        coef = minimise(np.concatenate([average, columns], axis=1), y, logistic, penalty).coef
        return float(coef[0]), np.asarray(coef[1] * equal + coef[2:])
