"""How charted events and treatments become numbers on the grid."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from flowsheet.config.base import FrozenModel, Name

Aggregation = Literal["last", "mean", "min", "max", "count"]
TreatmentColumn = Literal["on", "dose", "since"]


class FeaturesConfig(FrozenModel):
    """How charted events and treatments become numbers on the grid."""

    name: Name
    variables: Literal["all"] | tuple[str, ...] = "all"
    """Catalogue variables; "all" takes those that the extract's manifest lists as available."""
    variable_kinds: Literal["all"] | tuple[str, ...] = "all"
    """Kinds of variables in the catalogue, such as ``vital``; variables of other kinds are left
    out."""
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
