"""Which subjects are held out, and what is reported about them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import BeforeValidator, Field

from flowsheet.config.base import Fraction, FrozenModel, Name


class Protocol(StrEnum):
    """Which subjects are held out (see ``flowsheet.windows.protocol``)."""

    holdout = "holdout"
    """A share of the subjects, once."""
    cross_validation = "cross_validation"
    """Every subject once in each repeat; tuning happens inside each fold's other subjects."""
    temporal = "temporal"
    """The most recently admitted share of the subjects."""
    site = "site"
    """The subjects of some sites, or of each site in turn."""


def _as_tuple(values: object) -> object:
    """A single number as a tuple, so that ``net_benefit_at: 0.05`` needs no brackets."""
    return (values,) if isinstance(values, int | float) else values


OperatingPoints = Annotated[tuple[float, ...], BeforeValidator(_as_tuple)]

DEFAULT_OPERATING_POINTS: dict[str, tuple[float, ...]] = {
    "ppv_at_alert_rate": (0.05, 0.1),
    "ppv_at_daily_alerts": (0.05, 0.2),
    "sensitivity_at_alert_rate": (0.05, 0.1),
    "alert_rate_at_sensitivity": (0.5, 0.8),
    "ppv_at_sensitivity": (0.5, 0.8),
    "net_benefit_at": (0.05, 0.2),
    "net_benefit_above_clock": (0.05, 0.2),
}


class EvaluationConfig(FrozenModel):
    """Which subjects are held out, and what is reported about them."""

    name: Name
    protocol: Protocol = Protocol.holdout
    test: Fraction = 0.2
    """Share of all subjects: hold-out and temporal protocols."""
    validation: Fraction = 0.16
    """Share of all subjects used for tuning and early stopping."""
    folds: Annotated[int, Field(ge=2, le=50)] = 5
    """Folds of a cross-validation."""
    repeats: Annotated[int, Field(ge=1, le=50)] = 1
    """Repeats of a cross-validation, each with other folds."""
    sites: tuple[str, ...] = ()
    """Sites held out together by the site protocol; empty: each site in turn."""
    metric: Name = "auroc"
    """The metric that ranks the leaderboard, e.g. ``auroc`` or ``ppv_at_alert_rate_5``."""
    operating_points: dict[Name, OperatingPoints] = Field(default=DEFAULT_OPERATING_POINTS)
    """Alert rates, sensitivities or threshold probabilities, as shares, for the metrics that take
    one (see ``flowsheet ls metrics``); a metric that is not named is not computed."""
    hours_since_admission: tuple[Annotated[float, Field(gt=0)], ...] = (24, 48, 72, 120)
    """Hours after admission at which predictions are also evaluated alone, as far as steps end at
    them."""
    resamples: Annotated[int, Field(ge=0)] = 500
    confidence: Fraction = 0.95
    minimum_events: Annotated[int, Field(ge=1)] = 5
    """With fewer positives or negatives a figure is "not estimable"."""
    show_patients: bool = True
    """Whether the report shows three held-out stays over time: their measurements and doses, by
    time since admission. Without it a report holds no record of any patient."""
