"""Every choice that the label depends on; docs/sepsis3.md says where each default comes from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from flowsheet.config import FrozenModel

Hours = Annotated[float, Field(ge=0, le=10_000)]


class Sepsis3Options(FrozenModel):
    """Sepsis-3 as it is computed here. All times are in hours unless they say otherwise."""

    culture_first_hours: Hours = 72.0
    """Culture first: the antibiotic comes within this."""
    antibiotic_first_hours: Hours = 24.0
    """Antibiotic first: the culture comes within this."""
    groups: tuple[str, ...] = ("antibiotic",)
    """Groups of the catalogue's drugs that count; antivirals and antifungals only if they are named here."""
    excluded_routes: tuple[str, ...] = (
        *("topical", "eye", "ear", "nasal", "inhaled", "rectal", "vaginal", "transdermal"),
        *("irrigation", "catheter lock", "dialysis"),
    )
    """Ways of giving that treat a surface, a cavity or a catheter."""
    confirm_after_hours: Hours = 12.0
    """An antibiotic counts only when one is given, still or again, this long after it; 0: single doses count too."""
    confirm_within_hours: Hours = 72.0
    """... and that within this time."""
    prophylaxis_drugs: tuple[str, ...] = ("cefazolin",)
    """Given around operations: these count only when antibiotics go on longer ..."""
    prophylaxis_hours: Hours = 48.0
    """... than this."""
    excluded_specimens: tuple[str, ...] = (
        *(
            "SCREEN",
            "SEROLOGY",
            "IMMUNOLOGY",
            "CYTOGENETICS",
            "ANTIGEN",
            "BLOOD (CMV",
            "BLOOD (EBV",
            "BLOOD (TOXO",
        ),
        *("INFLUENZA", "VIRAL", "HEPATITIS", "HIV-1"),
    )
    """A specimen whose name holds one of these, whatever its case, is a screen or no bacterial culture."""

    criterion: Literal["rise", "level"] = "rise"
    """``rise``: of ``points`` from the running minimum of the window; ``level``: a score of ``points``."""
    points: Annotated[int, Field(ge=1, le=24)] = 2
    baseline: Literal["observed", "presumed_zero"] = "observed"
    """For ``rise``: what a component was before it was first measured. ``observed``: the same as
    then, so that the begin of charting is no rise. ``presumed_zero``: 0, as long as it is first
    measured in the first ``admission_hours``; later as ``observed``."""
    admission_hours: Hours = 24.0
    window_before_hours: Hours = 48.0
    """The window in which the score must rise begins this long before suspicion ..."""
    window_after_hours: Hours = 24.0
    """... and ends this long after it."""
    charting_delay_hours: Hours = 4.0
    """The score of an hour is read this much later: what reaches the record by then counts for the
    hour, what comes later counts from when it comes. So an onset is known this long after it, at
    the earliest."""
    fio2_hours: Hours = 4.0
    """A blood gas takes the last inspired oxygen that was charted within this before it."""
    ventilation_hours: Hours = 8.0
    """Ventilated: the last ``vent`` charted within this before the blood gas says 1."""
    urine_covered_hours: tuple[Hours, Hours] = (22.0, 30.0)
    """Urine is judged where the readings of the last 24 h speak of a time of this length."""

    end: Literal["recovery", "organs", "fixed"] = "recovery"
    """``recovery``: no antibiotic for ``end_antibiotic_free_hours`` and a score at most
    ``end_points`` above what it rose from (for ``level``: above 0); ``organs``: the score alone;
    ``fixed``: ``end_days`` after onset."""
    end_antibiotic_free_hours: Hours = 48.0
    end_points: Annotated[int, Field(ge=0, le=24)] = 1
    end_days: Annotated[float, Field(gt=0, le=365)] = 7.0
