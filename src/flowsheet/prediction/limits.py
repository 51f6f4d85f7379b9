"""How much one request may ask for, and how long it may take."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from flowsheet.config import FrozenModel

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]


class Limits(FrozenModel):
    """Limits of one request; a larger or slower one is rejected."""

    body_bytes: Count = 8_000_000
    rows: Count = 100_000
    """Rows of all tables together."""
    stays: Count = 1_000
    steps_per_stay: Count = 2_000
    steps: Count = 100_000
    """Steps of all stays together."""
    explained_steps: Count = 200
    """Steps that one request may have explained: each may cost as much as a prediction or more."""
    body_seconds: Seconds = 10.0
    """From the request's headers to the end of its body."""
    answer_seconds: Seconds = 30.0
    """From the end of the body to the answer."""
