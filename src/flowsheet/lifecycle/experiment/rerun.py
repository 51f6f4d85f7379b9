"""The same experiment again, from its record alone: do the numbers come back?"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from flowsheet.config import ExperimentConfig, validate_config
from flowsheet.lifecycle.experiment.record import RunSummary
from flowsheet.lifecycle.experiment.stage import Progress
from flowsheet.state.home import home
from flowsheet.state.store import STORE
from flowsheet.tracking.run_metadata import collect_code_version, collect_environment
from flowsheet.tracking.run_records import RunRecord, load_run_record


@dataclass(frozen=True)
class ValueDiff:
    """One thing then and now; None: it is not there."""

    what: str
    old: str | float | None
    new: str | float | None

    @property
    def equal(self) -> bool:
        """To the last bit."""
        return self.old == self.new


@dataclass(frozen=True)
class RerunResult:
    """What became of the record."""

    old_run: str
    new_run: str
    changes: tuple[ValueDiff, ...]
    """Fingerprints, code and library versions that differ."""
    figures: tuple[ValueDiff, ...]
    """Every figure of every model."""

    @property
    def equal(self) -> bool:
        """Every figure came back."""
        return all(line.equal for line in self.figures)


class RunExperiment(Protocol):
    """Runs an experiment's flow; ``tags`` mark its MLflow run."""

    def __call__(self, config: ExperimentConfig, tags: dict[str, str], /) -> RunSummary:
        """What the run reports."""


def rerun(reference: str, run: RunExperiment, progress: Progress) -> RerunResult:
    """Rebuild an experiment from its record, with nothing taken from the store, and compare every
    figure.

    Raises:
        UsageError: there is no such run, or its configuration is not one that this version
        understands.
        CheckFailed: the records are not where they were, or cannot be read.
    """
    old = _recorded(reference)
    config = validate_config(ExperimentConfig, old.config, where=f"the record of run {old.run_id}")
    registry = config.registry.model_copy(update={"register_models": False})
    here = config.compute.model_copy(
        update={"pool": None}
    )  # a pool's workers know nothing of the empty store
    config = config.model_copy(update={"registry": registry, "compute": here})
    for line in _surroundings(old):
        progress(f"warning: {line.what} was {line.old}, is {line.new}")
    with _empty_store():
        tags = {"flowsheet.rerun_of": old.run_id, "flowsheet.rerun": uuid.uuid4().hex}
        outcome = run(config, tags)
    new = _recorded(outcome.run_id)
    changes = [
        *_differences("fingerprint of", old.fingerprints, new.fingerprints),
        *_surroundings(old),
    ]
    return RerunResult(
        old.run_id, new.run_id, tuple(changes), tuple(_figures(old.metrics(), new.metrics()))
    )


def _recorded(reference: str) -> RunRecord:
    with tempfile.TemporaryDirectory() as folder:
        return load_run_record(reference, Path(folder))


def _surroundings(old: RunRecord) -> list[ValueDiff]:
    """What differs between the record's code and environment and ours."""
    names = {
        "flowsheet.version": "version",
        "mlflow.source.git.commit": "commit",
        "flowsheet.git.dirty": "changed",
    }
    code = {names[k]: v for k, v in collect_code_version().items()}
    ours = collect_environment()
    python = _differences("", {"python": old.environment["python"]}, {"python": ours["python"]})
    return [
        *_differences("code", old.code, code),
        *python,
        *_differences("library", old.environment["libraries"], ours["libraries"]),
    ]


def _differences(kind: str, old: Mapping[str, str], new: Mapping[str, str]) -> list[ValueDiff]:
    lines = [
        ValueDiff(f"{kind} {name}".strip(), old.get(name), new.get(name))
        for name in sorted({*old, *new})
    ]
    return [line for line in lines if not line.equal]


def _figures(
    old: Mapping[str, Mapping[str, float]], new: Mapping[str, Mapping[str, float]]
) -> Iterator[ValueDiff]:
    for model in sorted({*old, *new}):
        then, now = old.get(model, {}), new.get(model, {})
        for figure in sorted({*then, *now}):
            yield ValueDiff(
                f"{model} {figure.removeprefix('test.')}", then.get(figure), now.get(figure)
            )


@contextmanager
def _empty_store() -> Iterator[None]:
    """Nothing that was made before is found, and nothing stays."""
    folder, before = home() / "reruns" / uuid.uuid4().hex[:8], os.environ.get(STORE)
    os.environ[STORE] = str(folder)
    try:
        yield
    finally:
        os.environ.pop(STORE)
        if before is not None:
            os.environ[STORE] = before
        shutil.rmtree(folder, ignore_errors=True)
