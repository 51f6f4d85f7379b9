"""Every choice that the rows of a MIMIC-III extract depend on; docs/mimic3.md tells the reasons."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from flowsheet.cohort.rules import TOLERANCE_HOURS
from flowsheet.cohort.sepsis3 import Sepsis3Options
from flowsheet.config import FrozenModel

Tolerance = Annotated[float, Field(ge=0, le=TOLERANCE_HOURS)]
Hours = Annotated[float, Field(ge=0, le=10_000)]


class Mimic3Options(FrozenModel):
    """How the raw tables are read. All times are in hours."""

    min_age: Annotated[float, Field(ge=0, le=120)] = 18.0
    """Years at admission to the unit; the database's other patients are newborns."""
    min_hours: Hours = 6.0
    """Shorter stays are left out."""
    max_hours: Annotated[float, Field(gt=0)] | None = None
    """Longer stays are left out; None keeps them."""
    first_stay_only: bool = False
    """Keep only each patient's first stay, judged before all other rules."""
    excluded_services: tuple[str, ...] = ()
    """Codes of hospital services (CSURG, OBS, ...): stays that begin under one of them are left out."""
    age_over_89: Annotated[float, Field(ge=89, le=120)] = 91.4
    """Years for patients whose age the database hides by a birth 300 years before; their median there."""

    before_hours: Tolerance = 24.0
    """Facts belong to a stay from this long before its begin (but not before the end of the patient's last stay) ..."""
    after_hours: Tolerance = 2.0
    """... to this long after its end (but not after the begin of the next)."""
    lab_delay_hours: Hours = 2.0
    """LABEVENTS tells when a sample was taken, not when its result came: it is known this much later."""
    statics_hours: Hours = 0.0
    """Height and weight known by this long after admission become columns of the stay; with more
    than 0, predictions before that time see them too early. They are events in any case."""
    intubated_verbal: Literal["missing", "as_charted", "normal"] = "missing"
    """The verbal response of an intubated patient, charted as 1. ``missing``: neither it nor a
    total is given; ``as_charted``: 1; ``normal``: the total is 15, as mimic-code has it, and there
    is no verbal response."""

    carevue_rate_hours: Annotated[float, Field(gt=0, le=48)] = 4.0
    """A rate charted in CareVue holds until the next is charted, at most this long."""
    default_weight_kg: Annotated[float, Field(gt=0, le=300)] = 80.0
    """For doses per kg where no weight is known yet (mimic-code's)."""
    stays_per_batch: Annotated[int, Field(ge=1, le=20_000)] = 1_000
    """Stays held in memory at once."""

    sepsis3: Sepsis3Options = Sepsis3Options()
