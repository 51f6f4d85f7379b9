"""The parameters of the Sepsis-3 label; docs/sepsis3.md gives the source of each default."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from flowsheet.cohort.sepsis3.conventions import CONVENTIONS
from flowsheet.config import FrozenModel

Hours = Annotated[float, Field(ge=0, le=10_000)]
ADULT_SEPSIS_EVENT = "adult_sepsis_event"
ASE_GROUPS = ("antibiotic", "antiviral", "antifungal")
"""The groups of the antimicrobials that CDC's Toolkit lists."""
ASE_OPTIONS = frozenset(
    {
        *("definition", "ase_lactate", "groups", "excluded_routes", "admission_window_hours"),
        *("end", "end_days"),
    }
)
"""The options that the Adult Sepsis Event uses."""


class Sepsis3Options(FrozenModel):
    """Parameters of the Sepsis-3 label."""

    definition: Literal["sepsis3", "adult_sepsis_event"] = "sepsis3"
    """``sepsis3``, or CDC's Adult Sepsis Event, whose ``groups`` are by default antibiotics,
    antivirals and antifungals, and which ends with the record or, with ``end: fixed``, after
    ``end_days``. It uses ``ASE_OPTIONS`` only."""
    ase_lactate: bool = True
    """For the Adult Sepsis Event: lactate of 2 mmol/L is an organ dysfunction."""
    convention: Literal["flowsheet", "mimic_code", "ricu", "seymour"] = "flowsheet"
    """A published set of options (``CONVENTIONS``); options that are given explicitly override it.
    """

    culture_first_hours: Hours = 72.0
    """If the culture comes first: the longest time until the antibiotic."""
    antibiotic_first_hours: Hours = 24.0
    """If the antibiotic comes first: the longest time until the culture."""
    groups: tuple[str, ...] = ("antibiotic",)
    """Groups of the catalogue's drugs that count; by default no antivirals and antifungals."""
    excluded_routes: tuple[str, ...] = (
        *("topical", "eye", "ear", "nasal", "inhaled", "rectal", "vaginal", "transdermal"),
        *("irrigation", "catheter lock", "dialysis"),
    )
    """Routes of administration that treat a surface, a cavity or a catheter."""
    confirm_after_hours: Hours = 12.0
    """A dose counts only if an antibiotic is given again, or is still running, at least this long
    after it; with 0 single doses count too."""
    confirm_within_hours: Hours = 72.0
    """The longest time from a dose to the one that confirms it."""
    charted_doses: bool = True
    """Doses that were charted as given count, and not only orders."""
    antibiotics_in_stay: bool = False
    """Only antibiotics that begin in the stay count, not those of the whole hospital admission; one
    with only a date begins in the stay if its day does not end before it."""
    antibiotic_course: Literal["dose", "order", "start"] = "dose"
    """``dose``: every dose may make a suspicion, and every day of an order; ``order``: only the
    start of an order or infusion, also if it renews another; ``start``: only the start of a course,
    a dose of a drug that was not given in the ``course_gap_hours`` before."""
    course_gap_hours: Hours = 48.0
    date_only_time: Literal["day", "midnight", "noon"] = "day"
    """When a fact with only a date happened: at any moment of its ``day``, or at that time."""
    first_culture_only: bool = True
    """Each dose makes a suspicion only with the first of its cultures: the first in the
    ``culture_first_hours`` before it, without one the first after it."""
    first_suspicion_only: bool = False
    """Only the first suspicion of the hospital admission counts."""
    prophylaxis_drugs: tuple[str, ...] = ("cefazolin",)
    """Drugs given around operations: a dose counts only if an antibiotic is given at least
    ``prophylaxis_hours`` after it."""
    prophylaxis_hours: Hours = 48.0
    end_confirms: bool = True
    """Death within ``confirm_within_hours`` of a dose confirms it too, as no later dose could be
    given; so does the end of the stay for a charted dose of a drug not given as prophylaxis."""
    excluded_specimens: tuple[str, ...] = (
        *("SCREEN", "SEROLOGY", "IMMUNOLOGY", "CYTOGENETICS", "ANTIGEN"),
        *("BLOOD (CMV", "BLOOD (EBV", "BLOOD (TOXO"),
        *("INFLUENZA", "VIRAL", "HEPATITIS", "HIV-1"),
    )
    """Specimens whose name contains one of these, in any case, are screens or not bacterial."""

    score: Literal["sofa", "sofa2"] = "sofa"
    """The score of organ dysfunction: ``sofa`` (1996) or ``sofa2`` (2025)."""
    criterion: Literal["rise", "level"] = "rise"
    """``rise``: the score rises by ``points`` from its running minimum in the window; ``level``:
    the score reaches ``points``."""
    points: Annotated[int, Field(ge=1, le=24)] = 2
    baseline: Literal["presumed_zero", "observed"] = "presumed_zero"
    """For ``rise``: the score of a component before its first measurement. ``presumed_zero``: 0;
    ``observed``: equal to the first measurement, so that the start of charting is not a rise."""
    missing_score: Literal["carry", "zero"] = "carry"
    """For ``rise``: a component that was not measured in the last 24 h keeps its last score, or is
    0 as in the total."""
    admission_window_hours: Hours = 4.0
    """An episode whose onset is at most this long after admission was present on admission."""
    window_before_hours: Hours = 48.0
    """The window in which the score must rise begins this long before suspicion."""
    window_after_hours: Hours = 24.0
    """The window ends this long after suspicion."""
    charting_delay_hours: Hours = 4.0
    """The score of an hour is computed this much later: facts that are in the record by then count
    for the hour, later ones from their arrival. So an onset is known at the earliest this long
    after it."""
    fio2_hours: Hours = 4.0
    """The longest time from a charted inspired oxygen to the blood gas that uses it."""
    fio2_default: Annotated[float, Field(ge=21, le=100)] | None = None
    """Percent of inspired oxygen where none is charted within ``fio2_hours``; null: the blood gas
    is not used."""
    spo2_fio2: bool = False
    """Without a blood gas in the last 24 h, respiration is scored by SpO2/FiO2."""
    ventilation_hours: Hours = 8.0
    """The longest time from a charted ``vent`` to the blood gas that uses it."""
    vasopressor_min_hours: Hours = 1.0
    """A vasopressor counts if it ran this long, in sum, from 24 h before the hour until this long
    after it."""
    gcs_carry_hours: Hours = 0.25
    """The three parts of the coma score are added if they are charted within this time."""
    gcs_missing_parts: Literal["unknown", "normal"] = "unknown"
    """Where a part is not charted within that time, the sum is unknown, or the part is normal."""
    urine_covered_hours: tuple[Hours, Hours] = (22.0, 30.0)
    """Urine is scored if the readings of a day cover a time of this length; if they cover more,
    only an amount that is low even for a single day is scored."""
    rrt_points: bool = True
    """Renal replacement therapy (``rrt`` is 1) scores 4 points."""

    end: Literal["recovery", "organs", "fixed"] = "recovery"
    """``recovery``: no antibiotic for ``end_antibiotic_free_hours`` and a score at most
    ``end_points`` above the score from which it rose (for ``level``: above 0); ``organs``: only
    the score; ``fixed``: ``end_days`` after onset."""
    end_antibiotic_free_hours: Hours = 48.0
    end_points: Annotated[int, Field(ge=0, le=24)] = 1
    end_days: Annotated[float, Field(gt=0, le=365)] = 7.0

    @model_validator(mode="before")
    @classmethod
    def _apply_convention(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        if data.get("definition") == ADULT_SEPSIS_EVENT:
            return {"groups": ASE_GROUPS, **data}
        name = data.get("convention", "flowsheet")
        return {**CONVENTIONS.get(name, {}), **data} if isinstance(name, str) else data

    @model_validator(mode="after")
    def _refuse_unused(self) -> Self:
        fields = type(self).model_fields
        is_ase = self.definition == ADULT_SEPSIS_EVENT
        unused = set(fields) - ASE_OPTIONS if is_ase else {"ase_lactate"}
        given = [n for n in fields if n in unused and getattr(self, n) != fields[n].default]
        if is_ase and self.end == "organs":
            given.append("end=organs")
        if given:
            raise ValueError(f"definition={self.definition} does not use {', '.join(given)}")
        return self
