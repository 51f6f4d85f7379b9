"""Episodes that the source gives without saying of what.

Tables of one's own without the column ``response``, and the labels of a MEDS task, have this name
unless the cohort's option ``response`` names what is labelled.
"""

from __future__ import annotations

import polars as pl

from flowsheet.cohort.responses.base import (
    NEUTRAL_STATE,
    RESPONSES,
    Records,
    Response,
    Words,
)
from flowsheet.errors import UsageError


@RESPONSES.register("label")
class Label(Response):
    """Given by the source of the records; it is not computed."""

    words = Words("the labelled event", NEUTRAL_STATE, "have the labelled event")

    def find_episodes(self, records: Records) -> pl.DataFrame:
        """Refused: there is no rule.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            "the response 'label' is given by the source and cannot be computed",
            where="cohort.responses.label",
            todo="remove it",
        )
