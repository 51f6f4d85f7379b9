"""What input columns say: the roles by which a model may be given some of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field

FeatureRole = Literal[
    "physiology", "patient", "process", "drug", "anti_infective", "clock", "mixed"
]
"""See ``flowsheet.windows.roles``, which says the role of every column."""
FEATURE_ROLES: tuple[FeatureRole, ...] = get_args(FeatureRole)
_ALL = "all"


def _split_roles(value: Any) -> Any:
    """``all``, roles joined by ``+``, or ``all`` without some: ``all-clock-process``."""
    if not isinstance(value, str) or value == _ALL:
        return value
    if value.startswith(f"{_ALL}-"):
        dropped = value.split("-")[1:]
        unknown = [name for name in dropped if name not in FEATURE_ROLES]
        return tuple(unknown) or tuple(role for role in FEATURE_ROLES if role not in dropped)
    return tuple(dict.fromkeys(value.split("+")))


Roles = Annotated[
    Literal["all"] | Annotated[tuple[FeatureRole, ...], Field(min_length=1)],
    BeforeValidator(_split_roles),
]
"""Roles of input columns: all, or some of ``FEATURE_ROLES``; in YAML also as
``physiology+patient`` or ``all-clock-process``.

As text they can be chosen by the tuning (``space``).
"""


def list_roles(roles: Roles) -> tuple[FeatureRole, ...]:
    """The roles of a parameter ``roles``."""
    return FEATURE_ROLES if roles == "all" else roles
