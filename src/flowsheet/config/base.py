"""The base class and the value types of all configuration."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from flowsheet.state.hashing import digest

Fraction = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Scalar = bool | int | float | str | None


class FrozenModel(BaseModel):
    """Immutable values; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    def digest(self) -> str:
        """sha256 of the values."""
        return digest(self.model_dump(mode="json"))
