"""The results of a search as plain values."""

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
    """Position among the finished trials, from 0; the first has the default parameters."""
    state: TrialState
    params: dict[str, Any]
    """All parameters of the model, drawn, fixed or default, as JSON values."""
    value: float | None
    """The monitored metric on the validation split; of a pruned trial the last one reported."""
    seconds: float
    curve: dict[int, float]
    """Reported values by epoch or round."""
    error: str | None = None

    def result(self) -> dict[str, Any]:
        """All fields but the time, which differs between runs."""
        return {name: value for name, value in asdict(self).items() if name != "seconds"}


@dataclass(frozen=True)
class TuningResult:
    """A finished search."""

    folder: Path
    """Folder of the best trial's fitted model, for ``Model.load``."""
    best: TrialRecord
    trials: tuple[TrialRecord, ...]
    search: str
    """sha256 of the search space and settings; the data are not part of it."""

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
        """sha256 of the trials and their results, without times."""
        return digest([trial.result() for trial in self.trials])


def best_trial(trials: tuple[TrialRecord, ...]) -> TrialRecord | None:
    """The complete trial with the largest value; the first of several with the same value."""
    complete = [trial for trial in trials if trial.state is TrialState.complete]
    if not complete:
        return None
    return max(complete, key=_value_and_age)


def _value_and_age(trial: TrialRecord) -> tuple[float, int]:
    return (trial.value if trial.value is not None else float("-inf"), -trial.number)
