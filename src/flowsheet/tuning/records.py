"""What a search leaves behind, as plain values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from flowsheet.state.hashing import digest


class TrialState(StrEnum):
    """How a trial ended."""

    complete = "complete"
    pruned = "pruned"
    failed = "failed"


@dataclass(frozen=True)
class TrialRecord:
    """One finished trial."""

    number: int
    """Its place among the finished trials, from 0; the first has the default parameters."""
    state: TrialState
    params: dict[str, Any]
    """Every parameter of the model, drawn, fixed or default, as JSON values."""
    value: float | None
    """The monitored metric on the validation split; of a pruned trial the last one reported."""
    seconds: float
    curve: dict[int, float]
    """Reported values by epoch or round."""
    error: str | None = None

    def result(self) -> dict[str, Any]:
        """All but the time it took: what a repetition gives again."""
        return {name: value for name, value in asdict(self).items() if name != "seconds"}


@dataclass(frozen=True)
class Tuned:
    """A finished search."""

    folder: Path
    """Folder of the best trial's fitted model, for ``Model.load``."""
    best: TrialRecord
    trials: tuple[TrialRecord, ...]
    search: str
    """sha256 of everything that was searched and how; the data are the caller's to key."""

    @property
    def params(self) -> dict[str, Any]:
        """The best trial's parameters."""
        return self.best.params

    @property
    def value(self) -> float:
        """The best trial's monitored metric on the validation split."""
        assert self.best.value is not None
        return self.best.value

    @property
    def fingerprint(self) -> str:
        """sha256 of the trials and their results, times left out."""
        return digest([trial.result() for trial in self.trials])


def best_of(trials: tuple[TrialRecord, ...]) -> TrialRecord | None:
    """The complete trial with the largest value, the first among equals."""
    complete = [trial for trial in trials if trial.state is TrialState.complete]
    return max(
        complete,
        key=lambda t: (t.value if t.value is not None else float("-inf"), -t.number),
        default=None,
    )
