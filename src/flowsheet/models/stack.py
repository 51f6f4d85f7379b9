"""A penalised logistic regression on other models' log odds."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field, field_validator

from flowsheet.models._ensemble import Ensemble
from flowsheet.models._newton import logistic, minimise
from flowsheet.models._out_of_fold import predict_out_of_fold
from flowsheet.models.base import MODELS, Context
from flowsheet.typing import Floats, Labels
from flowsheet.windows.sequences import Sequences


@MODELS.register("stack")
class Stack(Ensemble):
    """Weights that are fitted on predictions of subjects on whom no member was fitted.

    Stacked generalisation (Wolpert 1992, doi:10.1016/S0893-6080(05)80023-1) with the penalty of Le
    Cessie and van Houwelingen (1992, doi:10.2307/2347628) towards equal weights, whose sum is free.
    The predictions are out of fold: for each of ``folds`` inner folds of the training and the
    validation subjects the members are fitted again without its subjects (van der Laan et al. 2007,
    doi:10.2202/1544-6115.1309). The members that predict stay as they are. Without rows of both
    classes it is the average.
    """

    title = "Stacked models"
    version = 3

    class Params(Ensemble.Params):
        """Parameters."""

        l2: Annotated[float, Field(ge=0)] = 10.0
        """Penalty on the squared differences from equal weights."""
        folds: Annotated[int, Field(ge=0, le=20)] = 3
        """Inner folds; 0: the weights are fitted on the validation subjects alone, and no member
        is fitted again."""

        @field_validator("folds")
        @classmethod
        def _check_folds(cls, folds: int) -> int:
            if folds == 1:
                raise ValueError("one fold leaves no subjects to fit on: take 2 or more, or 0")
            return folds

    def fit_weights(
        self, train: Sequences, valid: Sequences, context: Context
    ) -> tuple[float, Floats]:
        """Newton's method on the scored rows."""
        n_members = len(self.members)
        equal = np.full(n_members, 1 / n_members)
        columns, y = self._predict_development(train, valid, context)
        if not 0 < y.sum() < len(y):
            return 0.0, equal
        average = columns.mean(axis=1, keepdims=True)
        penalty = np.concatenate([[0.0, 0.0], np.full(n_members, self.params.l2)])
        coef = minimise(np.concatenate([average, columns], axis=1), y, logistic, penalty).coef
        return float(coef[0]), np.asarray(coef[1] * equal + coef[2:])

    def _predict_development(
        self, train: Sequences, valid: Sequences, context: Context
    ) -> tuple[Floats, Labels]:
        """The members' log odds (n, M) and the labels (n,) that the weights are fitted on."""
        if self.params.folds:
            members = list(self.members.values())
            return predict_out_of_fold(members, train, valid, context, folds=self.params.folds)
        return self.list_log_odds(valid)[valid.scored], np.asarray(valid.y[valid.scored])
