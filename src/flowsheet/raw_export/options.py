"""Options of the raw tables that are written from the simulated ward."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from flowsheet.config import FrozenModel
from flowsheet.errors import UsageError

Rate = Annotated[float, Field(ge=0, le=0.2)]


class ExportOptions(FrozenModel):
    """What is charted, by which chart system, and with which data errors.

    Rates of data errors are per row of items that the catalogue maps, unless they say otherwise. No
    row has two errors.
    """

    seed: Annotated[int, Field(ge=0)] = 1
    """Another seed charts the same ward differently."""
    compress: bool = True
    """Write ``.csv.gz``; false writes plain ``.csv``. Parquet is always compressed."""
    truth: bool = True
    """Write every true value to ``truth/`` beside the tables; at full size these are a GB."""
    unmapped_items: Annotated[float, Field(ge=0, lt=0.95)] = 0.8
    """Share of the rows of CHARTEVENTS whose item the catalogue does not map; 0.81 in the open demo
    of MIMIC-III."""
    unmapped_tests: Annotated[float, Field(ge=0, lt=0.95)] = 0.2
    """The same share of LABEVENTS and OUTPUTEVENTS; 0.17 and 0.18 in the demo."""
    carevue: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of subjects who are charted in CareVue, the older of the two chart systems. None: 0.6
    in MIMIC-III; the other formats have only MetaVision."""
    newborns: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of subjects who were born in this admission. None: 0.05 in MIMIC-III; the other formats
    have only adults."""
    same_admission: Annotated[float, Field(ge=0, le=1)] = 0.4
    """Share of second stays that belong to the admission of the first."""
    not_charted: Annotated[float, Field(ge=0, le=0.5)] = 0.08
    """Share of the planned rows of every item that are missing."""
    duplicates: Rate = 0.002
    """Rows written twice."""
    text_values: Rate = 0.003
    """Text instead of a number: ERROR in CHARTEVENTS, >60 and LESS THAN 1.0 in LABEVENTS."""
    out_of_range: Rate = 0.002
    """Impossible numbers."""
    flagged_errors: Rate = 0.002
    """Rows of CHARTEVENTS that are flagged as an error (MetaVision only)."""
    missing_stay_ids: Rate = 0.01
    """Rows without ICUSTAY_ID in CHARTEVENTS, without HADM_ID in LABEVENTS."""
    stored_early: Rate = 0.01
    """Share of charting times whose STORETIME is before CHARTTIME."""
    outside_stay: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Share of stays whose first and last rows are up to 90 minutes outside the stay."""
    rewritten: Rate = 0.05
    """Share of MetaVision's infusions that were entered again; the old row is marked Rewritten."""


MIMIC3_ONLY = {"carevue": 0.6, "newborns": 0.05}
"""Options of what only MIMIC-III contains, and their defaults there."""


def complete_options(options: ExportOptions, *, is_mimic3: bool) -> ExportOptions:
    """The options with the defaults of the format.

    Raises:
        UsageError: the format has no such patients.
    """
    chosen = {name: getattr(options, name) for name in MIMIC3_ONLY}
    for name, value in chosen.items():
        if value and not is_mimic3:
            raise UsageError(
                f"only MIMIC-III has such patients: {name}={value:g}",
                where=f"raw.{name}",
                todo="leave it out, or choose --as mimic3",
            )
    defaults = MIMIC3_ONLY if is_mimic3 else dict.fromkeys(MIMIC3_ONLY, 0.0)
    unset = {name: defaults[name] for name, value in chosen.items() if value is None}
    return options.model_copy(update=unset)
