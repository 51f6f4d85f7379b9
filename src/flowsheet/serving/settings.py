"""What a server is told when it starts."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from flowsheet.config import FrozenModel
from flowsheet.prediction.limits import Count, Limits, Seconds


class ServeConfig(FrozenModel):
    """Which model is served, where and how."""

    name: str
    alias: str = "champion"
    shadow: str | None = None
    """Alias of the version that scores the same requests aside."""
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    limits: Limits = Limits()
    batch: Count = 32
    """Requests that are scored together, at most."""
    waiting: Count = 500
    """Requests that may wait; further ones are sent away with 503."""
    poll_seconds: Seconds = 10.0
    """How often the registry is asked whether the alias has moved."""
    drain_seconds: Count = 30
    """How long a server that is told to stop lets its requests finish."""

    @model_validator(mode="after")
    def _rivals(self) -> Self:
        if self.shadow == self.alias:
            raise ValueError(f"{self.alias} cannot be its own shadow: name another alias")
        return self
