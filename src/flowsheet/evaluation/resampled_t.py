"""The corrected resampled t-test: two models compared over the folds of cross-validation.

Folds share training subjects, so that their scores are not independent and the ordinary t-test
rejects far too often. Nadeau and Bengio (2003, Machine Learning 52:239-281) inflate its variance by
the ratio of test to training size: t = mean(d) / sqrt((1 / J + n_test / n_train) * var(d)) with J -
1 degrees of freedom, here over the J = K x R folds of R repetitions (Bouckaert and Frank 2004,
PAKDD, 3-12).
"""

from __future__ import annotations

import math

import numpy as np

from flowsheet.evaluation.bootstrap import Difference, t_interval
from flowsheet.typing import Floats


def corrected_t_test(differences: Floats, test_to_training: float, confidence: float) -> Difference:
    """The mean of the differences (J,) of two models over the folds, its interval and test.

    Not estimable where the difference is undefined in a fold.

    >>> corrected_t_test(np.array([0.02, 0.03, 0.01, 0.02, 0.02]), 0.25, confidence=0.95).p < 0.05
    True
    """
    n_folds = len(differences)
    is_defined = np.isfinite(differences)
    if n_folds < 2 or not is_defined.all():
        mean = float(differences[is_defined].mean()) if is_defined.any() else math.nan
        return Difference(mean, math.nan, math.nan, math.nan)
    error = math.sqrt((1 / n_folds + test_to_training) * float(differences.var(ddof=1)))
    return t_interval(float(differences.mean()), error, n_folds - 1, confidence)
