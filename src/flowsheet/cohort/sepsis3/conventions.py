"""Published sets of options of the Sepsis-3 label; docs/sepsis3.md names what they leave out.

Each was compared with its authors' code: MIT-LCP/mimic-code (SQL), eth-mds/ricu (R), and for
``seymour`` the article, with alistairewj/sepsis3-mimic (SQL) for MIMIC-III.
"""

from __future__ import annotations

from typing import Any

CONVENTIONS: dict[str, dict[str, Any]] = {
    # MIT-LCP/mimic-code, mimic-iv/concepts: antibiotic, suspicion_of_infection, sofa, sepsis3.
    "mimic_code": {
        "charted_doses": False,
        "antibiotics_in_stay": True,
        "antibiotic_course": "order",
        "confirm_after_hours": 0.0,
        "excluded_routes": ("topical", "eye", "ear"),
        "excluded_specimens": (),
        "date_only_time": "midnight",
        "criterion": "level",
        "vasopressor_min_hours": 0.0,
        "gcs_carry_hours": 6.0,
        "gcs_missing_parts": "normal",
        "rrt_points": False,
    },
    # eth-mds/ricu: susp_inf(), sep3(), pafi(), vent_ind(), gcs(), vaso60(), urine24() with their
    # defaults; Bennett et al., GigaScience 12:giad041 (2023), doi:10.1093/gigascience/giad041.
    "ricu": {
        "groups": ("antibiotic", "antiviral", "antifungal", "other anti-infective"),
        "confirm_after_hours": 0.0,
        "excluded_routes": (),
        "excluded_specimens": (),
        "date_only_time": "noon",
        "first_culture_only": False,
        "first_suspicion_only": True,
        "missing_score": "zero",
        "fio2_default": 21.0,
        "fio2_hours": 2.0,
        "ventilation_hours": 6.0,
        "gcs_carry_hours": 6.0,
        "gcs_missing_parts": "normal",
        "urine_covered_hours": (12.0, 30.0),
        "rrt_points": False,
    },
    # Seymour et al., JAMA 315:762 (2016), doi:10.1001/jama.2016.0288: the first suspicion of the
    # encounter, any antibiotic by mouth or vein with any culture, and two points of SOFA.
    "seymour": {
        "confirm_after_hours": 0.0,
        "excluded_specimens": (),
        "first_culture_only": False,
        "first_suspicion_only": True,
        "criterion": "level",
        "rrt_points": False,
    },
}
"""The options in which each convention differs from the defaults (``flowsheet``)."""

INTUBATED_VERBAL: dict[str, str] = {"mimic_code": "normal", "ricu": "normal"}
"""The verbal response of intubated patients (an option of the source) that conventions need:
mimic-code's gcs and ricu's gcs(sed_impute = "max") give these patients 15 points."""
