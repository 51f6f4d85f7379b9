"""How the simulated ward is written as raw tables, and how much dirt goes with it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from flowsheet.config import FrozenModel

Rate = Annotated[float, Field(ge=0, le=0.2)]


class ExportOptions(FrozenModel):
    """Shares that make the raw tables look like MIMIC-III's: what is charted, by which system, and
    what is wrong.

    Rates of dirt are per row of items that a cohort uses, unless they say otherwise. Two kinds
    never meet in one row.
    """

    seed: Annotated[int, Field(ge=0)] = 1
    """Another seed charts the same ward otherwise."""
    compress: bool = True
    """Write ``.csv.gz``; false writes plain ``.csv``."""
    truth: bool = True
    """Keep every value that was written beside the tables; at full size it is worth a GB."""
    unmapped_items: Annotated[float, Field(ge=0, lt=0.95)] = 0.8
    """Share of the rows of CHARTEVENTS that belong to items which no cohort uses; in the database's demo it is 0.81."""
    unmapped_tests: Annotated[float, Field(ge=0, lt=0.95)] = 0.2
    """The same of LABEVENTS and OUTPUTEVENTS; there 0.17 and 0.18."""
    carevue: Annotated[float, Field(ge=0, le=1)] = 0.6
    """Share of subjects that the older of the two chart systems holds."""
    newborns: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Share of subjects that were born in this admission."""
    same_admission: Annotated[float, Field(ge=0, le=1)] = 0.4
    """Share of second stays that belong to the admission of the first."""
    not_charted: Annotated[float, Field(ge=0, le=0.5)] = 0.08
    """Share of the planned rows of every item that nobody charted."""
    duplicates: Rate = 0.002
    """Rows written twice."""
    text_values: Rate = 0.003
    """Words where a number belongs: ERROR in the chart, >60 and LESS THAN 1.0 in the laboratory."""
    out_of_range: Rate = 0.002
    """Numbers that cannot be."""
    flagged_errors: Rate = 0.002
    """Chart rows of MetaVision that somebody marked as an error."""
    missing_stay_ids: Rate = 0.01
    """Rows without ICUSTAY_ID in the chart, without HADM_ID in the laboratory."""
    stored_early: Rate = 0.01
    """Share of the chart's times that bear a STORETIME before CHARTTIME."""
    outside_stay: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Share of stays whose first and last chart rows lie up to 90 minutes outside the stay."""
    rewritten: Rate = 0.05
    """Share of MetaVision's infusions that were entered anew; the old entry stays, marked Rewritten."""
