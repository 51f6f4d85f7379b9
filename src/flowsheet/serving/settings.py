"""The configuration of a server."""

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
    """Alias of the version that shadow-scores the same requests."""
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    limits: Limits = Limits()
    batch_size: Count = 32
    """Requests that are scored together, at most."""
    queue_size: Count = 500
    """Requests that may wait; further ones are rejected with 503."""
    poll_seconds: Seconds = 10.0
    """How often the registry is asked whether the alias has moved."""
    drain_seconds: Count = 30
    """How long a stopping server waits for requests under way."""

    @model_validator(mode="after")
    def _check_aliases(self) -> Self:
        if self.shadow == self.alias:
            raise ValueError(f"{self.alias} cannot be its own shadow: name another alias")
        return self
