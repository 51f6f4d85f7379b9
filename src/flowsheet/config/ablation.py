"""The study of what models read: the same models with some of the inputs."""

from __future__ import annotations

from pydantic import Field

from flowsheet.config.base import FrozenModel, Name
from flowsheet.config.roles import Roles


class AblatedInputs(FrozenModel):
    """The inputs that are left to a model."""

    roles: Roles
    """Roles of the columns, such as ``physiology+patient`` or ``all-anti_infective``."""
    history: bool = False
    """Whether a model that takes the patient's known past responses keeps them."""


class AblationConfig(FrozenModel):
    """Which models are trained again, and with which inputs."""

    name: Name
    models: tuple[Name, ...] | None = None
    """Models of the experiment; null: its trees and its logistic regression, and where it has
    neither, the model with the best validation score."""
    inputs: dict[Name, AblatedInputs] = Field(min_length=1)
    """By name, such as ``physiology_only``."""
