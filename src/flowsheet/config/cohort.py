"""Which records make the cohort, and what happens to rows that break a rule."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from flowsheet.config.base import FrozenModel, Name, Share


class Policy(StrEnum):
    """What ingest does with a row that breaks a rule."""

    reject = "reject"
    """The whole extract is rejected."""
    quarantine = "quarantine"
    """The row is left out of the extract and kept in ``quarantine.parquet``."""


class QuarantineConfig(FrozenModel):
    """What happens to rows that break a rule of the extract's schema."""

    default: Policy = Policy.quarantine
    rules: dict[str, Policy] = Field(default={})
    """Policy per rule name, where it differs from the default."""
    max_share: Share = 0.02
    """Reject the extract when a larger share of any table's rows is quarantined."""

    def of_rule(self, rule: str) -> Policy:
        """The policy of a rule."""
        return self.rules.get(rule, self.default)


class CohortConfig(FrozenModel):
    """Which records to read, and from where."""

    name: Name
    source: Name
    path: str | None = None
    options: dict[str, Any] = Field(default={})
    """Validated by the source's own ``Options``."""
    responses: dict[Name, dict[str, Any]] = Field(default={})
    """Responses to compute from the records, beside those that the source gives, with their
    options; ``flowsheet ls responses``."""
    quarantine: QuarantineConfig = QuarantineConfig()
    max_rows_per_stay: Annotated[int, Field(ge=1)] = 2_000_000
    """Reject the extract when a stay has more events or treatments."""
    allow_empty: bool = False
    """Accept records without a row of a table or variable that the source needs; the extract then
    has a warning."""
