"""The mean of other models' log odds."""

from __future__ import annotations

import numpy as np

from flowsheet.models._ensemble import Ensemble
from flowsheet.models.base import MODELS, Context
from flowsheet.typing import Floats
from flowsheet.windows.sequences import Sequences


@MODELS.register("average")
class Average(Ensemble):
    """All members with the same weight: nothing is fitted beyond them.

    The geometric pool of probabilities (Genest and Zidek 1986, doi:10.1214/ss/1177013825).
    """

    title = "Average of models"

    def fit_weights(
        self, train: Sequences, valid: Sequences, context: Context
    ) -> tuple[float, Floats]:
        """Equal weights."""
        n_members = len(self.members)
        return 0.0, np.full(n_members, 1 / n_members)
