"""Profiles and risks of patients drawn from one law."""

from __future__ import annotations

import numpy as np
import polars as pl

from flowsheet.monitoring.performance import RISKS
from flowsheet.monitoring.profile import PROFILE

VARIABLES = ("hr", "temp", "resp", "lact", "crea", "glu", "hgb", "wbc")
MEANS = {"hr": (85, 12), "temp": (37, 0.6), "resp": (18, 4), "lact": (2, 0.8), "crea": (1.1, 0.4), "glu": (140, 35),
         "hgb": (10.5, 1.6), "wbc": (11, 4)}  # fmt: skip


def ward(
    stays: int, seed: int, per_patient: int = 1, steps: int = 5
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Correlated values, discrete shares, and risks that are right; stays of one patient are quite alike."""
    rng = np.random.default_rng(seed)
    patients = -(-stays // per_patient)
    patient = np.repeat(np.arange(patients), per_patient)[:stays]
    common = rng.normal(size=patients)[patient]
    parts = []
    for name in VARIABLES:
        own = rng.normal(size=patients)[patient] + 0.1 * rng.normal(size=stays)
        middle, spread = MEANS[name]
        parts.append(lines("value", name, middle + spread * (0.5 * common + 0.85 * own), patient))
        charted = rng.binomial(8, 0.8 if name == "hr" else 0.3, patients)[patient] / 8
        parts.append(lines("presence", name, charted, patient))
    parts.append(
        lines("person", "sex=F", (rng.random(patients) < 0.4)[patient].astype(float), patient)
    )
    logit = -1.5 + 0.8 * np.repeat(common, steps) + 0.5 * rng.normal(size=stays * steps)
    risk = 1 / (1 + np.exp(-logit))
    said = {
        "stay_id": np.repeat(np.arange(stays), steps), "subject_id": np.repeat(patient, steps), "risk": risk,
        "y": (rng.random(stays * steps) < risk).astype(np.int8), "scored": np.ones(stays * steps, bool),
    }  # fmt: skip
    return pl.concat(parts), pl.DataFrame(said, schema=RISKS)


def lines(kind: str, of: str, numbers: np.ndarray, patient: np.ndarray) -> pl.DataFrame:
    n = len(numbers)
    columns = {
        "stay_id": np.arange(n),
        "subject_id": patient,
        "kind": [kind] * n,
        "of": [of] * n,
        "number": numbers,
    }
    return pl.DataFrame(columns, schema=PROFILE)
