"""Contributions to a linear predictor: coefficient * (value - reference)."""

from __future__ import annotations

import numpy as np

from flowsheet.models._newton import Chunk, predictor
from flowsheet.models._rows import RowContributions, need_reference
from flowsheet.typing import Floats


def explain_linear(
    x: Chunk, coef: Floats, reference: Floats | None, model: str
) -> RowContributions:
    """Exact contributions to the log odds of a logistic model.

    Args:
        x: Columns (n, D).
        coef: The intercept, then a coefficient for each column (D + 1,).
        reference: The row that the baseline is predicted for (D,).
        model: Names the model in errors.
    """
    reference = need_reference(reference, model)
    baseline = np.full(len(x), coef[0] + reference @ coef[1:])
    return RowContributions(baseline, predictor(x, coef), (x - reference) * coef[1:])
