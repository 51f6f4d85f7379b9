"""Default parameters by the size of the cohort: the only place where it decides.

The size is the number of training subjects with the event, or without it if these are fewer: their
rows are alike, and the other subjects are plenty. A parameter whose default is None takes the value
of its rule when the model is fitted; a value that is given, or drawn by the tuning, is used as it
is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from flowsheet.windows.sequences import Sequences

_PRECISION = 50.0
"""Of the normal prior of a coefficient (standard deviation 0.14), in subjects."""
_MARGIN_PRECISION = 20.0
_FEWEST_LEAVES, _MOST_LEAVES = 7, 31
_MOST_NETWORKS, _SUBJECTS_OF_NETWORKS = 3, 200
_ROWS_OF_TREE = 1_000_000


@dataclass(frozen=True)
class CohortSize:
    """How much there is to learn from."""

    subjects: int
    """Training subjects with the rarer outcome: with the event, or without it."""
    prevalence: float
    """Share of the scored training rows with the event."""
    rows: int = 0
    """Scored training rows."""

    @classmethod
    def of(cls, train: Sequences) -> CohortSize:
        """The size of the training stays."""
        rows = np.flatnonzero(train.scored)
        y, subject = np.asarray(train.y[rows]), train.subject_id[train.row_stay[rows]]
        subjects = min(len(np.unique(subject[y == outcome])) for outcome in (0, 1))
        return cls(subjects, float(y.sum()) / max(1, len(y)), len(y))

    @property
    def penalty(self) -> float:
        """L2 penalty of a likelihood, relative to the mean loss of a row.

        Each subject with the rarer outcome counts once, whatever the number of its rows. What a row
        tells about a coefficient grows with the variance of the outcome, p (1 - p).

        >>> CohortSize(subjects=1_000, prevalence=0.02).penalty
        0.00098
        """
        variance = self.prevalence * (1 - self.prevalence)
        return _bound(_PRECISION * variance / max(1, self.subjects), 1e-6, 1.0)

    @property
    def margin_penalty(self) -> float:
        """L2 penalty of a margin whose classes have equal weights, relative to the mean loss.

        >>> CohortSize(subjects=1_000, prevalence=0.02).margin_penalty
        0.02
        """
        return _bound(_MARGIN_PRECISION / max(1, self.subjects), 1e-6, 1.0)

    @property
    def leaves(self) -> int:
        """Leaves of a tree: the square root of the number of subjects, from 7 to 31.

        >>> [CohortSize(subjects, 0.02).leaves for subjects in (10, 100, 10_000)]
        [7, 10, 31]
        """
        return int(_bound(self.subjects**0.5, _FEWEST_LEAVES, _MOST_LEAVES))

    @property
    def row_fraction(self) -> float:
        """Share of the rows that a tree learns from: all, or a million of more.

        >>> [CohortSize(1_000, 0.02, rows).row_fraction for rows in (500_000, 5_000_000)]
        [1.0, 0.2]
        """
        return _bound(_ROWS_OF_TREE / max(1, self.rows), 0.0, 1.0)

    @property
    def networks(self) -> int:
        """Networks of an ensemble: the fewer subjects, the more the initial weights matter.

        >>> [CohortSize(subjects, 0.02).networks for subjects in (10, 150, 1_000)]
        [3, 2, 1]
        """
        return int(_bound(-(-_SUBJECTS_OF_NETWORKS // max(1, self.subjects)), 1, _MOST_NETWORKS))


Rule = Callable[[CohortSize], Any]


def apply_rules(rules: Mapping[str, Rule], size: CohortSize) -> dict[str, Any]:
    """The value of each parameter that has a rule."""
    return {name: rule(size) for name, rule in rules.items()}


def _bound(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)
