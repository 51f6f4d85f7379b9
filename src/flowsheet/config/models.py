"""The models of an experiment and their search spaces."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

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


CLOCK = "clock"
"""The name of the model by which the others are judged."""
FLOOR_MODELS = ("prevalence", CLOCK, "sofa", "qsofa", "sirs", "news2", "mews", "shock_index")
"""Models that every experiment has beside its own, unless ``floor: false``."""


class TuningConfig(FrozenModel):
    """How long to search for parameters, and by which metric."""

    name: Name
    trials: Annotated[int, Field(ge=1)] = 10
    metric: Name = "auprc"
    """Monitored on the validation split; a registered metric."""
    prune: bool = True
    startup_trials: Annotated[int, Field(ge=1)] = 4
    """Trials drawn at random before TPE starts."""
    timeout_minutes: Annotated[float, Field(gt=0)] | None = None
    """Start no further trial of a model after this time; results then depend on the machine."""
