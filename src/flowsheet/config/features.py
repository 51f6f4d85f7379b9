"""How charted events and treatments become numbers on the grid."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from flowsheet.config.base import FrozenModel, Name

Aggregation = Literal["last", "mean", "min", "max", "count"]
TreatmentColumn = Literal["on", "dose", "since"]
Statistic = Literal["min", "max", "mean", "sd", "count", "slope"]
Hours = Annotated[float, Field(gt=0, le=10_000)]


class VariableSelection(FrozenModel):
    """Which variables."""

    variables: Literal["all"] | tuple[str, ...] = "all"
    """Catalogue variables; "all" takes those that the extract's manifest lists as available."""
    variable_kinds: Literal["all"] | tuple[str, ...] = "all"
    """Kinds of variables in the catalogue, such as ``vital``; variables of other kinds are left
    out."""


class PastWindow(VariableSelection):
    """Statistics of the values that became known in the last hours, or since admission."""

    hours: Hours | None = None
    """Length of the window, rounded up to whole steps; null: since the first row of the stay."""
    statistics: tuple[Statistic, ...] = Field(min_length=1)


class MovingAverage(VariableSelection):
    """An exponentially weighted mean of all known values."""

    half_life_hours: Hours
    """A value this much older has half the weight."""


class Bound(FrozenModel):
    """How long the last known value was above (or below) a bound."""

    variable: Name
    above: float | None = None
    below: float | None = None
    hours: Hours | None = None
    """Length of the window, rounded up to whole steps; null: since the first row of the stay."""

    @model_validator(mode="after")
    def _check_one_side(self) -> Self:
        if (self.above is None) == (self.below is None):
            raise ValueError(f"the bound of {self.variable} needs either above or below")
        return self


class PastConfig(FrozenModel):
    """Columns about the past of the stay, and numbers that follow from several variables."""

    windows: tuple[PastWindow, ...] = ()
    averages: tuple[MovingAverage, ...] = ()
    changes: VariableSelection | None = None
    """The change of these variables since the first known value of the stay; null: none."""
    bounds: tuple[Bound, ...] = ()
    derived: Literal["all", "none"] | tuple[str, ...] = "none"
    """Ratios and scores of several variables; "all" takes those that the extract allows."""


class FeaturesConfig(VariableSelection):
    """How charted events and treatments become numbers on the grid."""

    name: Name
    aggregations: tuple[Aggregation, ...] = ("last",)
    carry_forward_hours: Annotated[float, Field(ge=0)] = 48.0
    """How long a value stays valid after its measurement; 0 keeps it to its own step."""
    carry_forward_by_variable: dict[str, float] = Field(default={})
    missing_indicators: bool = True
    hours_since_measured: bool = True
    treatments: Literal["all", "none"] | tuple[str, ...] = "all"
    excluded_treatment_groups: tuple[str, ...] = ()
    """Groups of drugs in the catalogue, such as ``antibiotic``, that are no inputs."""
    treatment_columns: tuple[TreatmentColumn, ...] = Field(
        default=("on", "dose", "since"), min_length=1
    )
    """The columns of each drug; without "since" no column records an earlier dose."""
    statics: tuple[str, ...] = ("age", "sex", "unit", "hours_in_hospital")
    time: bool = True
    """Hours since admission as a feature."""
    past: PastConfig = PastConfig()
    """Columns about the past of the stay; by default none."""
