"""Whether two models differ over the folds of repeated cross-validation.

Folds share training subjects, so that their figures are not independent and the ordinary t-test is
far too sure. Nadeau and Bengio (2003, Machine Learning 52:239-281) widen its variance by the ratio
of test to training size: t = mean(d) / sqrt((1 / J + n_test / n_train) * var(d)) with J - 1 degrees
of freedom, here over the J = K x R folds of R repetitions (Bouckaert and Frank 2004, PAKDD, 3-12).
"""

from __future__ import annotations

import math

import numpy as np

from flowsheet.evaluation.bootstrap import Difference, t_interval
from flowsheet.typing import Floats


def corrected_t_test(differences: Floats, ratio: float, confidence: float) -> Difference:
    """The mean of the differences (J,) of two models fold by fold, its interval and test.

    ``ratio`` is test over training subjects. Not estimable where a fold cannot tell.

    >>> corrected_t_test(np.array([0.02, 0.03, 0.01, 0.02, 0.02]), ratio=0.25, confidence=0.95).p < 0.05
    True
    """
    folds = len(differences)
    if folds < 2 or not np.isfinite(differences).all():
        known = differences[np.isfinite(differences)]
        return Difference(
            float(known.mean()) if len(known) else math.nan, math.nan, math.nan, math.nan
        )
    error = math.sqrt((1 / folds + ratio) * float(differences.var(ddof=1)))
    return t_interval(float(differences.mean()), error, folds - 1, confidence)
