"""What a changed property does to the predictions.

The model is approximated over the current stays by a line: each stay's mean risk as a ridge
regression on its properties (Hoerl and Kennard 1970, doi 10.1080/00401706.1970.10488634), missing
ones at their mean. A property's effect is its slope times the difference between its current and
its reference mean: by how much it has moved the mean risk, other properties being equal. It ranks
findings; it is no estimate of a cause, and properties that change together share their effect.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from flowsheet.monitoring.profile import PropertyKind
from flowsheet.typing import Floats

Property = tuple[PropertyKind, str]

MINIMUM_STAYS = 50
"""With fewer stays no effects are estimated."""
_PENALTY = 0.1
"""Of the squared slopes of standardised properties, a stay."""


def estimate_effects(
    profile: pl.DataFrame, risks: pl.DataFrame, reference_means: Mapping[Property, float]
) -> dict[Property, float]:
    """The effect of each property on the mean risk; empty with too few stays.

    Args:
        profile: profile (``PROFILE_SCHEMA``) of the current stays.
        risks: their risks (``RISK_SCHEMA``).
        reference_means: the mean of each property over the stays in training.
    """
    mean_risk = risks.group_by("stay_id").agg(pl.col("risk").mean()).sort("stay_id")
    if mean_risk.height < MINIMUM_STAYS:
        return {}
    names = [key for key in reference_means if key[0] not in {"risk", "performance"}]
    columns = [_column(profile, mean_risk["stay_id"], key) for key in names]
    if not columns:
        return {}
    x = np.stack(columns, axis=1)
    means, scale = x.mean(axis=0), x.std(axis=0)
    scale[scale == 0] = 1.0
    slopes = _fit_ridge((x - means) / scale, mean_risk["risk"].to_numpy()) / scale
    return {
        key: float(slope * (mean - reference_means[key]))
        for key, slope, mean in zip(names, slopes, means, strict=True)
    }


def _column(profile: pl.DataFrame, stays: pl.Series, key: Property) -> Floats:
    """The property of each stay, its mean where it is not known; 0 where it never is."""
    kind, name = key
    values = profile.filter(kind=kind, name=name).group_by("stay_id").agg(pl.col("value").mean())
    of_stays = pl.DataFrame({"stay_id": stays}).join(
        values, on="stay_id", how="left", maintain_order="left"
    )["value"]
    return of_stays.fill_null(strategy="mean").fill_null(0.0).to_numpy()


def _fit_ridge(x: Floats, y: Floats) -> Floats:
    """Slopes of standardised columns (n, k), shape (k,)."""
    penalty = _PENALTY * len(x) * np.eye(x.shape[1])
    return np.asarray(np.linalg.solve(x.T @ x + penalty, x.T @ (y - y.mean())))
