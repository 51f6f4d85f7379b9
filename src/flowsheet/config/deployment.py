"""What a model version must show to be promoted, and what counts as a change after that."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from flowsheet.config.base import Fraction, FrozenModel, Name, Share


class RegistryConfig(FrozenModel):
    """Where the best version of each model is registered."""

    register_models: bool = True
    prefix: str = ""
    """Registered names are ``<prefix or experiment>-<model>``."""


class PromotionConfig(FrozenModel):
    """The gates of a promotion (see ``lifecycle.deployment.gates``); all use held-out subjects."""

    name: Name
    metric: Name = "auroc"
    """Compares the candidate with the champion, on the candidate's held-out rows."""
    max_seen_share: Share = 0.1
    """The largest share of the held-out subjects whom the champion may have been developed on.
    They are left out. As a cohort grows, a few subjects at the border of the split move. 0: the
    candidate is refused as soon as there is one."""
    rule: Literal["better", "not_worse"] = "better"
    """``better``: the whole interval of the difference is on the good side of 0. ``not_worse``: the
    whole interval is on the good side of ``margin`` to the worse."""
    margin: Annotated[float, Field(ge=0)] = 0.0
    resamples: Annotated[int, Field(ge=100)] = 1000
    confidence: Fraction = 0.95
    calibration_slope: tuple[float, float] = (0.7, 1.4)
    """Bounds of the slope; 1 is perfect."""
    calibration_rows: Literal["all", "new_onsets"] = "all"
    """Rows that calibration is judged by in state tasks. Who is in the state is often known later
    than the prediction is made; a model that is calibrated given what was known then need not be so
    among those who were not in it."""
    ece: Annotated[float, Field(gt=0, le=1)] = 0.05
    """The largest expected calibration error."""
    subgroup_floor: Share = 0.6
    """The least ``metric`` in every subgroup where it is estimable."""
    external_evaluations: Annotated[int, Field(ge=0)] = 0
    """Other extracts that the candidate must have been evaluated on (``flowsheet evaluate``)."""
    external_floor: Share = 0.6
    """The least ``metric`` on each of them."""
    live_verdict: Literal["better", "not_worse"] | None = None
    """How the candidate must have done in the champion's shadow, by ``metric`` and ``margin``, on
    live requests whose outcomes are known (``flowsheet outcomes``); null: it is not asked."""
    latency_ms: Annotated[float, Field(gt=0)] = 250.0
    """The longest median time of a prediction for one stay, over some repeats in this process."""
    approvers: tuple[str, ...] = ()
    """Who may promote, as stated with the decision; empty: anyone."""
    four_eyes: bool = False
    """Whoever trained the model may not promote it."""


class MonitoringConfig(FrozenModel):
    """What counts as a change since training (see ``flowsheet.monitoring.findings``)."""

    name: Name
    alpha: Fraction = 0.01
    """Upper bound of the probability that a report flags anything although nothing has changed."""
    minimum_ks_statistic: Fraction = 0.1
    """Minimum Kolmogorov-Smirnov statistic of a relevant change: 0.1 is a tenth of the stays."""
    measurement_rate_ratio: Annotated[float, Field(gt=1)] = 1.5
    """A variable that is measured this many times as often, or as seldom, is relevant too."""
    auroc_loss: Fraction = 0.02
    """Minimum loss of AUROC."""
    calibration_slope_change: Annotated[float, Field(gt=0)] = 0.2
    """Minimum change of the calibration slope."""
    calibration_intercept_change: Annotated[float, Field(gt=0)] = 0.2
    """Minimum change of the calibration intercept, in log odds."""
    observed_over_expected_ratio: Annotated[float, Field(gt=1)] = 1.1
    """Minimum ratio of current to reference observed over expected events, either way."""
    minimum_patients: Annotated[int, Field(ge=20)] = 100
    """Patients that a distribution needs in reference and current data; else "not estimable"."""
    minimum_events: Annotated[int, Field(ge=5)] = 20
    """Patients with the event that discrimination and calibration need."""
