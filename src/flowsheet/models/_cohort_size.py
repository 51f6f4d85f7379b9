"""Default parameters by the size of the cohort: the only place where it decides.

The size is the number of training subjects with the event: their rows are alike, and subjects
without the event are plenty. A parameter whose default is None takes the value of its rule when the
model is fitted; a value that is given, or drawn by the tuning, is used as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from flowsheet.windows.sequences import Sequences

_PRECISION = 50.0
"""Of the normal prior of a coefficient (standard deviation 0.14), in subjects with the event."""
_MARGIN_PRECISION = 20.0
_FEWEST_LEAVES, _MOST_LEAVES = 7, 31
_MOST_NETWORKS, _SUBJECTS_OF_NETWORKS = 3, 200


@dataclass(frozen=True)
class CohortSize:
    """How much there is to learn from."""

    subjects: int
    """Training subjects with the event."""
    prevalence: float
    """Share of the scored training rows with the event."""

    @classmethod
    def of(cls, train: Sequences) -> CohortSize:
        """The size of the training stays."""
        is_event = np.asarray(train.scored) & (np.asarray(train.y) == 1)
        subjects = np.unique(train.subject_id[train.row_stay[is_event]])
        return cls(len(subjects), float(is_event.sum()) / max(1, int(train.scored.sum())))

    @property
    def penalty(self) -> float:
        """L2 penalty of a likelihood, relative to the mean loss of a row.

        Each subject with the event counts once, whatever the number of its rows.

        >>> CohortSize(subjects=1_000, prevalence=0.02).penalty
        0.001
        """
        return _bound(_PRECISION * self.prevalence / max(1, self.subjects), 1e-6, 1.0)

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
