"""Profiles and risks of simulated patients who all come from the same distribution."""

from __future__ import annotations

import numpy as np
import polars as pl

from flowsheet.monitoring.performance import RISK_SCHEMA
from flowsheet.monitoring.profile import PROFILE_SCHEMA

MEANS_AND_SDS = {
    "hr": (85, 12),
    "temp": (37, 0.6),
    "resp": (18, 4),
    "lact": (2, 0.8),
    "crea": (1.1, 0.4),
    "glu": (140, 35),
    "hgb": (10.5, 1.6),
    "wbc": (11, 4),
}
VARIABLES = tuple(MEANS_AND_SDS)


def simulate_profile(
    stays: int, seed: int, stays_per_patient: int = 1, steps: int = 5
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Profile and risks of ``stays`` stays with ``steps`` steps each.

    Values are correlated, measurement rates are discrete, risks are calibrated, and the stays of a
    patient are similar.
    """
    rng = np.random.default_rng(seed)
    patients = -(-stays // stays_per_patient)
    patient = np.repeat(np.arange(patients), stays_per_patient)[:stays]
    severity = rng.normal(size=patients)[patient]
    parts = []
    for name, (mean, sd) in MEANS_AND_SDS.items():
        noise = rng.normal(size=patients)[patient] + 0.1 * rng.normal(size=stays)
        values = mean + sd * (0.5 * severity + 0.85 * noise)
        parts.append(profile_rows("measured_value", name, values, patient))
        rates = rng.binomial(8, 0.8 if name == "hr" else 0.3, patients)[patient] / 8
        parts.append(profile_rows("measurement_rate", name, rates, patient))
    is_female = (rng.random(patients) < 0.4)[patient].astype(float)
    parts.append(profile_rows("demographics", "sex=F", is_female, patient))
    rows = stays * steps
    logit = -1.5 + 0.8 * np.repeat(severity, steps) + 0.5 * rng.normal(size=rows)
    risk = 1 / (1 + np.exp(-logit))
    risks = {
        "stay_id": np.repeat(np.arange(stays), steps),
        "subject_id": np.repeat(patient, steps),
        "risk": risk,
        "y": (rng.random(rows) < risk).astype(np.int8),
        "scored": np.ones(rows, bool),
        "weight": np.ones(rows),
    }
    return pl.concat(parts), pl.DataFrame(risks, schema=RISK_SCHEMA)


def profile_rows(kind: str, name: str, values: np.ndarray, patient: np.ndarray) -> pl.DataFrame:
    """Profile of one property, a stay a row."""
    stays = len(values)
    rows = {
        "stay_id": np.arange(stays),
        "subject_id": patient,
        "kind": [kind] * stays,
        "name": [name] * stays,
        "value": values,
    }
    return pl.DataFrame(rows, schema=PROFILE_SCHEMA)
