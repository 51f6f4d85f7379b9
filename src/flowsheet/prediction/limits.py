"""How much one request may ask for."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from flowsheet.config import FrozenModel

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]


class Limits(FrozenModel):
    """How much one request may ask, and how long it may take."""

    body_bytes: Count = 8_000_000
    rows: Count = 100_000
    """Rows of all tables together."""
    stays: Count = 1_000
    steps_per_stay: Count = 2_000
    steps: Count = 100_000
    """Steps of all stays together."""
    body_seconds: Seconds = 10.0
    """Until the whole body has come."""
    answer_seconds: Seconds = 30.0
    """Until the answer, once the body has come."""
