"""Base of the autoregressive models: logistic models on the known past of the response.

logit P(y = 1 | past) = a + sum_j b_j h_j + sum_j c_j u_j (+ x d)

h_j is column j of ``Sequences.history``: the response j steps back as known when predicting, 0
before the stay; u_j is 1 there. A row near admission is thus neither dropped (every row needs a
probability) nor treated as a patient who was known to be well; b_j is the effect of a known past
response, as in a fit to later rows alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl

from flowsheet.config import ModelConfig
from flowsheet.errors import CheckFailed
from flowsheet.models._glm import Glm, fit_glm
from flowsheet.models._linear import explain_linear
from flowsheet.models._newton import predictor, sigmoid
from flowsheet.models._rows import RowContributions, RowModel, Rows
from flowsheet.models.base import Context
from flowsheet.typing import Floats, Floats32, Ints
from flowsheet.windows.sequences import Sequences


class MarkovModel(RowModel):
    """Logistic autoregression; the table of coefficients has standard errors clustered by subject.

    Only tasks whose response is a state have a past that varies: before the *first* onset of a stay
    every past response is 0 by definition.
    """

    covariates: ClassVar[bool] = False
    """Whether the current row's inputs are terms too, and ``reads_inputs`` then."""
    version = 2
    keeps_constant = True  # they are told to be not identified
    reads_inputs = False

    lags: int
    glm: Glm
    rows: int
    subjects: int

    @classmethod
    def describe_title(cls, config: ModelConfig) -> str:
        """With the number of lags where it is configured."""
        lags = config.params.get("lags", "p")
        return cls.title.replace("(p)", f"({lags})")

    def requested_lags(self) -> int:
        """p."""
        return int(getattr(self.params, "lags", 1))

    def matrix(self, sequences: Sequences, rows: Ints | None = None) -> Floats32:
        """History, indicators of steps before the stay, and with covariates x: (n, 2 p [+ F])."""
        chosen: Any = slice(None) if rows is None else rows
        history = np.asarray(sequences.history[chosen, : self.lags])
        parts = [np.nan_to_num(history), np.isnan(history).astype(np.float32)]
        if self.covariates:
            parts.append(np.asarray(sequences.x[chosen]))
        return np.concatenate(parts, axis=1)

    def columns(self, sequences: Sequences) -> list[str]:
        """The names of the columns of :meth:`matrix`."""
        names = [f"{name}:{j}" for name in ("history", "before_stay") for j in range(self.lags)]
        return names + [f.name for f in sequences.features] if self.covariates else names

    def fit(self, train: Sequences, valid: Sequences, context: Context) -> None:
        """Maximum likelihood on the scored training rows.

        Raises:
            CheckFailed: the history has no lags, or never varies.
        """
        self.lags = min(self.requested_lags(), train.history.shape[1])
        _check_history(train.history[train.scored, : self.lags], type(self).__name__)
        if self.lags < self.requested_lags():
            context.progress(
                f"the task offers {self.lags} lags of the response; "
                f"{self.requested_lags()} are requested"
            )
        super().fit(train, valid, context)

    def fit_rows(self, train: Rows, valid: Rows, context: Context) -> None:
        """Maximum likelihood by Newton's method."""
        self.glm = fit_glm(train.x, train.y, train.subject)
        self.rows, self.subjects = len(train.y), len(np.unique(train.subject))
        if self.glm.separable:
            context.progress(
                "warning: some term separates the classes; fitted with a weak normal prior (sd 10)"
            )

    def predict_rows(self, x: Floats32) -> Floats:
        """The logistic function of the linear predictor."""
        return sigmoid(predictor(x, self.glm.coef))

    def origins(self, sequences: Sequences) -> Ints:
        """Both columns of a lag are made from that lag of the response."""
        features = len(sequences.features)
        lags = features + np.arange(self.lags)
        return np.concatenate([lags, lags, np.arange(features if self.covariates else 0)])

    def explain_rows(self, x: Floats32) -> RowContributions:
        """Coefficient times the distance from the reference row."""
        return explain_linear(x, self.glm.coef, self.reference, type(self).__name__)

    def write(self, folder: Path) -> dict[str, Any]:
        """Coefficients, covariance and counts."""
        covariance = None if self.glm.covariance is None else self.glm.covariance.tolist()
        fit = {
            "coef": self.glm.coef.tolist(),
            "identified": self.glm.identified.tolist(),
            "covariance": covariance,
        }
        counts = {"lags": self.lags, "rows": self.rows, "subjects": self.subjects}
        return {**fit, "separable": self.glm.separable, **counts}

    def read(self, folder: Path, state: dict[str, Any]) -> None:
        """Restore what :meth:`write` returned."""
        covariance = None if state["covariance"] is None else np.array(state["covariance"])
        self.glm = Glm(
            np.array(state["coef"]), np.array(state["identified"]), covariance, state["separable"]
        )
        self.lags, self.rows, self.subjects = state["lags"], state["rows"], state["subjects"]

    def tables(self) -> dict[str, pl.DataFrame]:
        """``coefficients`` (log odds ratios, 95% intervals) and ``fit`` (rows, subjects, lags)."""
        if not self.fitted:
            return {}
        counts = {
            "rows": self.rows,
            "subjects": self.subjects,
            "lags": self.lags,
            "separable": self.glm.separable,
        }
        return {"coefficients": self.glm.table(self.terms), "fit": pl.DataFrame([counts])}


def _check_history(history: Floats32, model: str) -> None:
    known = history[~np.isnan(history)]
    if known.size and known.min() < known.max():
        return
    observed = "no past response is known"
    if known.size:
        observed = f"every known past response is {known[0]:g}"
    raise CheckFailed(
        f"{model} has no past to regress on: the response history is never known at prediction "
        "time, or never varies",
        where=f"{observed} in the scored training rows, {history.shape[1]} lags",
        todo="choose a task with target: state, history_lags of 1 or more and a response that is "
        "known in time; before a first onset, and with labels that are shifted ahead, the past "
        "response carries no information",
    )
