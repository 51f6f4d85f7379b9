"""The flow of participants, from all rows to those that are scored."""

from __future__ import annotations

import numpy as np

from flowsheet.typing import Ints
from flowsheet.windows.sequences import Sequences
from flowsheet.windows.task import Exclusion

EXCLUSIONS = tuple(reason for reason in Exclusion if reason is not Exclusion.none)
"""The reasons, in the order in which they apply."""


def count_left_out(sequences: Sequences) -> dict[str, dict[str, int]]:
    """Rows, stays and subjects that each reason leaves out, in the order of the reasons.

    A row leaves for the first reason that applies to it; a stay or a subject leaves together with
    its last row. A stay that ends before its first question therefore leaves as ``outside_stay``.
    The counts of all reasons, and of what is scored, add up to all rows, stays and subjects.

    Raises:
        ValueError: the sequences do not know why rows are not scored.
    """
    if sequences.excluded is None:
        raise ValueError("the sequences do not know why rows are not scored")
    reason = np.asarray(sequences.excluded, np.int64)
    of_stay = _last_reason(reason, sequences.row_stay)
    of_subject = _last_reason(reason, sequences.subject_id[sequences.row_stay])
    return {
        excluded.name: {
            "rows": int((reason == excluded).sum()),
            "stays": int((of_stay == excluded).sum()),
            "subjects": int((of_subject == excluded).sum()),
        }
        for excluded in EXCLUSIONS
    }


def _last_reason(reason: Ints, group: Ints) -> Ints:
    """The reason that leaves out the last row of each group; ``none`` where a row is scored."""
    unique, position = np.unique(group, return_inverse=True)
    last = np.zeros(len(unique), np.int64)
    np.maximum.at(last, position, reason)
    last[position[reason == Exclusion.none]] = Exclusion.none
    return last
