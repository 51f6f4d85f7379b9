"""The interface of a trial that is recorded in MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Trial(Protocol):
    """A finished trial, such as ``flowsheet.tuning.records.TrialRecord``."""

    @property
    def number(self) -> int:
        """Position among the finished trials."""

    @property
    def state(self) -> str:
        """``complete``, ``pruned`` or ``failed``."""

    @property
    def params(self) -> Mapping[str, Any]:
        """All of the model's parameters."""

    @property
    def value(self) -> float | None:
        """The tuned metric on the validation split."""

    @property
    def seconds(self) -> float:
        """Duration."""

    @property
    def curve(self) -> Mapping[int, float]:
        """{epoch or boosting round: reported metric}."""

    @property
    def error(self) -> str | None:
        """The reason why it failed."""
