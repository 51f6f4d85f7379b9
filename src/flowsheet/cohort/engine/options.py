"""The options of all databases; docs/mimic3.md gives the reasons of the defaults."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from flowsheet.cohort.rules import TOLERANCE_HOURS
from flowsheet.cohort.sepsis3 import Sepsis3Options
from flowsheet.cohort.sepsis3.conventions import INTUBATED_VERBAL
from flowsheet.cohort.time_zones import TimeZone
from flowsheet.config import FrozenModel

Tolerance = Annotated[float, Field(ge=0, le=TOLERANCE_HOURS)]
Hours = Annotated[float, Field(ge=0, le=10_000)]


class DatabaseOptions(FrozenModel):
    """How the raw tables are read. All durations are in hours."""

    min_age: Annotated[float, Field(ge=0, le=120)] = 18.0
    """Years at admission to the unit; the database's younger patients are newborns."""
    min_hours: Hours = 6.0
    """Shorter stays are excluded."""
    max_hours: Annotated[float, Field(gt=0)] | None = None
    """Longer stays are excluded; null: no limit."""
    first_stay_only: bool = False
    """Keep only each patient's first stay, chosen before all other rules apply."""
    excluded_services: tuple[str, ...] = ()
    """Codes of hospital services (CSURG, OBS, ...); stays that start under one are excluded."""
    age_over_89: Annotated[float, Field(ge=89, le=120)] = 91.4
    """Years for patients over 89, whose age the database hides by a birth 300 years earlier; the
    default is their median age."""

    before_hours: Tolerance = 24.0
    """Rows belong to a stay from this long before its start (but not before the end of the
    patient's previous stay) ..."""
    after_hours: Tolerance = 2.0
    """... to this long after its end (but not after the start of the window of the next stay)."""
    lab_delay_hours: Hours | None = None
    """Time from a sample to its result, for all results of the laboratory; null: a result is known
    when it, or its copy in another table, was stored, else after its item's delay in the
    catalogue."""
    statics_hours: Hours = 1.0
    """Height and weight that are known by this long after admission become columns of the stay.
    Predictions before that time see them too early; the first one of an hourly task does not. They
    are events in any case, and features see those that are charted later when they are known."""
    fio2_from_flow: bool = False
    """Derive FiO2 from the flow of oxygen and its device where none is charted; the table is in
    ``concepts/fio2_by_flow.csv``."""
    intubated_verbal: Literal["missing", "as_charted", "normal"] = "missing"
    """The verbal response of an intubated patient, which is charted as 1. ``missing``: the verbal
    response and the total are missing; ``as_charted``: it is 1; ``normal``: the total is 15, as in
    mimic-code, and the verbal response is missing. null: ``normal`` with the conventions
    ``mimic_code`` and ``ricu`` of Sepsis-3, else ``missing``."""

    default_weight_kg: Annotated[float, Field(gt=0, le=300)] = 80.0
    """For doses per kg while no weight is known; the default is mimic-code's."""
    time_zone: TimeZone = None
    """The hospital's time zone, such as America/New_York: zoned times of Parquet files become its
    local time. Without it they are refused."""
    max_line_mb: Annotated[float, Field(gt=0, le=1_000)] = 8.0
    """A line of a CSV file that is longer, in megabytes, is refused."""
    stays_per_batch: Annotated[int, Field(ge=1, le=20_000)] = 1_000
    """Stays that are processed at once; memory grows with it."""

    sepsis3: Sepsis3Options | None = Sepsis3Options()
    """How sepsis is defined; docs/sepsis3.md. null: sepsis is not looked for."""

    @property
    def charted_rate_hours(self) -> float:
        """A rate that is charted from time to time lasts until the next one, at most this long."""
        return 4.0

    @model_validator(mode="before")
    @classmethod
    def _apply_convention(cls, data: Any) -> Any:
        """``intubated_verbal`` as the convention of Sepsis-3 needs it, unless it is given."""
        if not isinstance(data, dict) or data.get("intubated_verbal") is not None:
            return data
        sepsis3 = data.get("sepsis3")
        given = sepsis3 if isinstance(sepsis3, dict) else vars(sepsis3 or Sepsis3Options())
        rule = INTUBATED_VERBAL.get(str(given.get("convention")), "missing")
        return {**data, "intubated_verbal": rule}


class OptionsWithoutSepsis(DatabaseOptions):
    """The options of a database without cultures."""

    sepsis3: Sepsis3Options | None = None
    """null: sepsis is not looked for."""
