"""Sepsis by Sepsis-3, in several conventions, or by the Adult Sepsis Event.

Singer et al., JAMA 315:801-810 (2016), doi:10.1001/jama.2016.0287; Seymour et al., JAMA 315:762-774
(2016), doi:10.1001/jama.2016.0288; Rhee et al., JAMA 318:1241-1249 (2017),
doi:10.1001/jama.2017.13836. ``cohort.sepsis3`` has the rules and docs/sepsis3.md explains them.

It needs the antibiotics and cultures of the whole hospital admission, which only sources that read
them have: these label sepsis themselves, with the options in ``cohort.options.sepsis3``.
"""

from __future__ import annotations

import polars as pl

from flowsheet.cohort.completeness import Needs, needs_of_definition
from flowsheet.cohort.responses.base import RESPONSES, SEPSIS_WORDS, Records, Response
from flowsheet.cohort.sepsis3 import LabelInputs, Sepsis3Options, label


@RESPONSES.register("sepsis")
class Sepsis(Response):
    """Suspected infection with organ dysfunction: Sepsis-3, or the Adult Sepsis Event."""

    Options = Sepsis3Options
    words = SEPSIS_WORDS

    def needs(self) -> Needs:
        """Cultures, antibiotics, and the measurements of the definition."""
        return needs_of_definition(self.options.definition)

    def find_episodes(self, records: Records) -> pl.DataFrame:
        """The episodes of :func:`flowsheet.cohort.sepsis3.label`."""
        inputs = LabelInputs(
            records.stays,
            records.events,
            records.treatments,
            records.antibiotics,
            records.cultures,
        )
        return label(inputs, self.options).episodes
