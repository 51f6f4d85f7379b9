"""The lowest rung: everybody has the same risk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from flowsheet.config import FrozenModel
from flowsheet.models._rows import RowContributions, RowModel, Rows, contribute_nothing
from flowsheet.models.base import MODELS, Capabilities, Context, Contributions, ModelFamily
from flowsheet.numerics import log_odds
from flowsheet.typing import Floats, Floats32, Ints
from flowsheet.windows.sequences import Sequences


@MODELS.register("prevalence")
class Prevalence(RowModel):
    """The share of the training rows with the event, for every row.

    Its AUROC is 0.5 and its AUPRC the prevalence: what a model without any information achieves.
    """

    title = "Prevalence"

    class Params(FrozenModel):
        """No parameters."""

    capabilities = Capabilities(family=ModelFamily.floor, input_description="nothing", scaled=False)
    uses_reference = False
    reads_inputs = False

    def fit_rows(self, train: Rows, valid: Rows, context: Context) -> None:
        """Nothing beyond the base rate."""

    def predict_rows(self, x: Floats32) -> Floats:
        """The base rate."""
        return np.full(len(x), self.rate)

    def explain(self, sequences: Sequences, rows: Ints) -> Contributions:
        """No input contributes."""
        return contribute_nothing(self.predict_proba(sequences)[rows], self.inputs, rows)

    def explain_rows(self, x: Floats32) -> RowContributions:
        """No column contributes."""
        constant = log_odds(self.predict_rows(x))
        return RowContributions(constant, constant, np.zeros(x.shape))

    def write(self, folder: Path) -> dict[str, Any]:
        """Nothing."""
        return {}

    def read(self, folder: Path, state: dict[str, Any]) -> None:
        """Nothing."""
