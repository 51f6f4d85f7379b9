"""From which risk on there is an alert, and when a further alert is silenced."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, model_validator

from flowsheet.config.base import Fraction, FrozenModel, Name


class ThresholdBy(StrEnum):
    """What the decision threshold is chosen by, on the validation subjects."""

    balance = "balance"
    """The PhysioNet 2019 utility where the task has it, else the F-measure."""
    utility = "utility"
    """Found onsets, each worth ``target`` false alerts; without a target the PhysioNet utility."""
    alerts_per_day = "alerts_per_day"
    """At most ``target`` alerts per patient-day."""
    ppv = "ppv"
    """At least the share ``target`` of the alerts is right."""
    sensitivity = "sensitivity"
    """At least the share ``target`` of the onsets is found."""

    @property
    def is_promise(self) -> bool:
        """Whether the threshold keeps a promise, which is tested on the held-out subjects."""
        return self in (ThresholdBy.alerts_per_day, ThresholdBy.ppv, ThresholdBy.sensitivity)


class AlertingConfig(FrozenModel):
    """The alert policy: from which risk on there is an alert, and when it is silenced.

    See ``flowsheet.evaluation.alert_policy``.
    """

    name: Name = "standard"
    threshold_by: ThresholdBy = ThresholdBy.balance
    target: Annotated[float, Field(gt=0)] | None = None
    """What ``threshold_by`` promises: alerts per patient-day, a PPV or a sensitivity; with
    ``utility`` how many false alerts one found onset is worth."""
    confidence: Fraction = 0.95
    """With which a promise is to hold for other patients than the validation subjects."""
    silence_hours: Annotated[float, Field(ge=0)] = 0.0
    """After an alert no other is raised for this stay for so long."""
    acknowledged_hours: Annotated[float, Field(gt=0)] | None = None
    """After an alert that somebody has acknowledged no other is raised for so long. Evaluations
    take every alert as acknowledged at once; null: acknowledgement changes nothing."""
    max_alerts_per_day: Annotated[int, Field(ge=1)] | None = None
    """At most so many alerts of a stay in any 24 hours."""

    @model_validator(mode="after")
    def _check_target(self) -> AlertingConfig:
        by = self.threshold_by
        if by is ThresholdBy.balance and self.target is not None:
            raise ValueError(
                "threshold_by: balance has no target; choose alerts_per_day, ppv, sensitivity or "
                "utility"
            )
        if by.is_promise and self.target is None:
            raise ValueError(f"threshold_by: {by.value} needs a target, such as target: 0.2")
        is_share = by in (ThresholdBy.ppv, ThresholdBy.sensitivity)
        if is_share and self.target is not None and self.target >= 1:
            raise ValueError(f"the target of {by.value} is a share below 1, such as 0.2 for 20%")
        return self

    @model_validator(mode="after")
    def _check_acknowledged(self) -> AlertingConfig:
        hours = self.acknowledged_hours
        if hours is not None and hours < self.silence_hours:
            raise ValueError(
                f"acknowledged_hours ({hours:g}) must be at least silence_hours "
                f"({self.silence_hours:g}): who acknowledges an alert is not alerted earlier"
            )
        return self
