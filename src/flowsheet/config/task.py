"""What is predicted, when, and for which rows."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from flowsheet.config.base import FrozenModel, Name


class Target(StrEnum):
    """What y is."""

    state = "state"
    """In the state at some time in the target window, such as septic."""
    onset = "onset"
    """First onset in the target window."""


class Censor(StrEnum):
    """What becomes of a row whose target window outlasts the stay; never by its outcome."""

    complete = "complete"
    """It is not scored: only windows that were observed to their end count."""
    keep = "keep"
    """It is scored: what was not observed counts as free of the event."""
    competing = "competing"
    """It is not scored, and rows with a complete window stand for it: metrics weight them by the
    inverse probability that the window is complete."""


class EndAt(StrEnum):
    """The event after which no more predictions are asked for; death always ends them."""

    discharge = "discharge"
    comfort_measures = "comfort_measures"
    """Discharge, or if earlier the limitation of care to comfort measures, where recorded."""


class TaskConfig(FrozenModel):
    """What is predicted, when, and for which rows (see ``flowsheet.windows.task``)."""

    name: Name
    response: Name = "sepsis"
    """What is predicted, one of ``flowsheet ls responses`` or a name that the records use."""
    target: Target = Target.state
    step_hours: Annotated[float, Field(ge=0.001)] = 24.0
    horizon: Annotated[int, Field(ge=0)] | None = 1
    """Steps ahead; 0 is "the rest of this step, after the cut-off"; null is everything after the
    question, such as death before discharge (only with ``at_hours``)."""
    at_hours: Annotated[float, Field(gt=0)] | None = None
    """Ask once a stay, this long after admission, at the end of a step; null: after every step.
    Models that read sequences read every step until then."""
    cutoff_hours: Annotated[float, Field(gt=0)] | None = None
    """Hours into the step at which a same-step prediction is made; only with horizon 0."""
    censor: Censor = Censor.complete
    end_at: EndAt = EndAt.discharge
    history_lags: Annotated[int, Field(ge=0, le=64)] = 7
    """How many of the patient's own past responses are offered as model inputs."""
    max_steps: Annotated[int, Field(ge=1)] | None = None
    """Longer stays are cut after this many steps; None keeps them whole."""

    @field_validator("response")
    @classmethod
    def _check_response(cls, response: str) -> str:
        if response in set(Target):
            raise ValueError(
                f"{response!r} is a target, not a response: write target={response}, "
                "and response=sepsis or another of `flowsheet ls responses`"
            )
        return response

    @model_validator(mode="after")
    def _check_cutoff(self) -> TaskConfig:
        if (self.horizon == 0) != (self.cutoff_hours is not None):
            raise ValueError("cutoff_hours goes with horizon 0, and horizon 0 needs cutoff_hours")
        if self.cutoff_hours is not None and self.cutoff_hours >= self.step_hours:
            raise ValueError(
                f"cutoff_hours ({self.cutoff_hours}) must lie inside the step ({self.step_hours} h)"
            )
        return self

    @model_validator(mode="after")
    def _check_question(self) -> TaskConfig:
        if self.at_hours is None:
            if self.horizon is None:
                raise ValueError("horizon=null needs at_hours: the hour of the only question")
            return self
        if self.horizon == 0:
            raise ValueError("at_hours asks at the end of a step, so that horizon 0 has no window")
        if self.at_hours % self.step_hours:
            raise ValueError(
                f"at_hours ({self.at_hours:g}) must be a multiple of step_hours "
                f"({self.step_hours:g})"
            )
        if self.max_steps is not None and self.max_steps * self.step_hours < self.at_hours:
            raise ValueError(f"max_steps ({self.max_steps}) ends before at_hours")
        return self
