"""The models of an experiment and their search spaces."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from flowsheet.config.base import FrozenModel, Name, Scalar


class FloatRange(FrozenModel):
    """A real parameter of a search space."""

    type: Literal["float"] = "float"
    low: float
    high: float
    log: bool = False


class IntRange(FrozenModel):
    """A whole parameter of a search space."""

    type: Literal["int"] = "int"
    low: int
    high: int
    step: int = 1
    log: bool = False


class Choice(FrozenModel):
    """A categorical parameter of a search space."""

    type: Literal["choice"] = "choice"
    of: tuple[Scalar, ...] = Field(min_length=1)


Range = Annotated[FloatRange | IntRange | Choice, Field(discriminator="type")]
Space = dict[str, Range]
"""Each tuned parameter and its range, as plain data."""


class ModelConfig(FrozenModel):
    """One model of the experiment."""

    kind: Name
    """A registered model."""
    params: dict[str, Scalar | tuple[Scalar, ...]] = Field(default={})
    """Fixed parameters; the others keep their defaults or are tuned."""
    space: Space | None = None
    """Search space as plain data; None takes the model's own, {} tunes nothing."""
    history: bool = False
    """Give the model the patient's known past responses as inputs."""
    trials: Annotated[int, Field(ge=1)] | None = None
    """Trials for this model, where they differ from the tuning's."""
    minutes_weight: Annotated[float, Field(gt=0)] = 1.0
    """The model's part of ``tuning.minutes``, in proportion to those of the other models."""


CLOCK = "clock"
"""The name of the model by which the others are judged."""
FLOOR_MODELS = ("prevalence", CLOCK, "sofa", "qsofa", "sirs", "news2", "mews", "shock_index")
"""Models that every experiment has beside its own, unless ``floor: false``."""


class Pruner(StrEnum):
    """Which trials end before they have been fitted to the end."""

    none = "none"
    median = "median"
    """Those that are worse than the median of the earlier ones at the same step."""
    successive_halving = "successive_halving"
    """All but the best at each rung; a rung is ``reduction_factor`` times as long as the last."""
    hyperband = "hyperband"
    """As successive halving, with several first rungs."""


LeaveOut = Literal["unit", "site", "year", "charting"]
"""Groups of subjects, see ``flowsheet.windows.shift_groups``."""


class TuningConfig(FrozenModel):
    """How long to search for parameters, and by which metric."""

    name: Name
    trials: Annotated[int, Field(ge=1)] = 10
    metric: Name = "auprc"
    """Monitored on the validation split; a registered metric."""
    pruner: Pruner = Pruner.median
    reduction_factor: Annotated[int, Field(ge=2)] = 3
    """1 in so many trials of a rung goes on to the next (successive halving and Hyperband), and
    each rung of ``partial_data`` has so many times the subjects of the last."""
    partial_data: Annotated[float, Field(gt=0, le=0.5)] | None = None
    """The share of the training subjects on which a trial begins; it goes on with more of them, and
    a trial that is not pruned is fitted to all. None: every trial is fitted to all."""
    leave_out: LeaveOut | None = None
    """Trials are compared by the mean of their scores on groups of the training and validation
    subjects, each of which is left out once, instead of by the validation subjects."""
    startup_trials: Annotated[int, Field(ge=1)] = 4
    """Trials drawn at random before TPE starts."""
    timeout_minutes: Annotated[float, Field(gt=0)] | None = None
    """Start no further trial of a model after this time; results then depend on the machine."""

    minutes: Annotated[float, Field(gt=0)] | None = None
    """Time that the trials of all models and folds take together, as the sum of their durations; it
    is shared out between the models, and ``trials`` is then the most that one may have. The first
    trial of a model always runs. Results then depend on the machine: a rerun repeats as many trials
    as there were."""
    recorded_trials: dict[str, Annotated[int, Field(ge=1)]] = Field(default={})
    """{model, with the name of its fold: trials}, set by a rerun in place of limits of time."""

    @model_validator(mode="before")
    @classmethod
    def _read_earlier_releases(cls, values: Any) -> Any:
        """``prune: false`` is what records of earlier releases have instead of a pruner."""
        if not isinstance(values, dict) or "prune" not in values or "pruner" in values:
            return values
        others = {name: value for name, value in values.items() if name != "prune"}
        return others | {"pruner": Pruner.median if values["prune"] else Pruner.none}

    @model_validator(mode="after")
    def _check_partial_data(self) -> TuningConfig:
        if self.partial_data is not None and self.pruner is Pruner.none:
            raise ValueError("partial_data needs a pruner: without one no trial ends early")
        return self

    @model_validator(mode="after")
    def _check_left_out(self) -> TuningConfig:
        if self.leave_out is not None and self.pruner is not Pruner.none:
            raise ValueError(
                "leave_out needs pruner: none, because early scores are of the validation subjects"
            )
        return self
