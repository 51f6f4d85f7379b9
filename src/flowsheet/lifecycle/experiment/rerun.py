"""Rerun a recorded experiment from its record alone, and compare every metric."""

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

from flowsheet.config import ExperimentConfig, TuningConfig, validate_config
from flowsheet.lifecycle.experiment.record import RunSummary
from flowsheet.state.home import home
from flowsheet.state.store import STORE
from flowsheet.tracking.erasure import ERASED_AT, ERASED_SUBJECTS
from flowsheet.tracking.run_metadata import (
    collect_code_version,
    collect_environment,
    shorten_code_version,
)
from flowsheet.tracking.run_records import RunRecord, load_run_record
from flowsheet.typing import Progress


@dataclass(frozen=True)
class ValueDiff:
    """A value in the original run and in the rerun; None where it is absent."""

    name: str
    old: str | float | None
    new: str | float | None

    @property
    def is_equal(self) -> bool:
        """Whether both are equal, to the last bit."""
        return self.old == self.new


@dataclass(frozen=True)
class RerunResult:
    """The comparison of a rerun with the original run."""

    old_run: str
    new_run: str
    changes: tuple[ValueDiff, ...]
    """Erased subjects, and fingerprints, code and library versions that differ."""
    metrics: tuple[ValueDiff, ...]
    """All metrics of all models."""

    @property
    def is_reproduced(self) -> bool:
        """Whether all metrics are equal."""
        return all(metric.is_equal for metric in self.metrics)


class RunExperiment(Protocol):
    """Runs an experiment's flow and adds ``tags`` to its MLflow run."""

    def __call__(self, config: ExperimentConfig, tags: dict[str, str], /) -> RunSummary:
        """Run the experiment."""


def rerun(reference: str, run: RunExperiment, progress: Progress) -> RerunResult:
    """Run an experiment again with the recorded configuration and an empty store.

    Args:
        reference: a run id, ``NAME/VERSION`` or ``NAME@ALIAS``.
        run: runs the experiment.
        progress: called with a warning for each version that differs from the record.

    Raises:
        UsageError: there is no such run, or its configuration is invalid in this release.
        CheckFailed: the source records cannot be found or read.
    """
    old = _load_record(reference)
    config = validate_config(ExperimentConfig, old.config, where=f"the record of run {old.run_id}")
    config = config.model_copy(
        update={
            "registry": config.registry.model_copy(update={"register_models": False}),
            # the workers of a pool would use their own store, not the empty one
            "compute": config.compute.model_copy(update={"pool": None}),
            "tuning": _repeat_trials(config.tuning, old),
        }
    )
    version_changes = _version_changes(old)
    erasures = _find_erasures(old)
    for erasure in erasures:
        progress(
            f"warning: {erasure.new} of the subjects in this run's records were erased since "
            f"(the last on {old.tags.get(ERASED_AT)}), so other metrics will come out"
        )
    for change in version_changes:
        progress(f"warning: {change.name} was {change.old}, is {change.new}")
    with _empty_store():
        tags = {"flowsheet.rerun_of": old.run_id, "flowsheet.rerun": uuid.uuid4().hex}
        summary = run(config, tags)
    new = _load_record(summary.run_id)
    fingerprint_changes = _diff("fingerprint of", old.fingerprints, new.fingerprints)
    return RerunResult(
        old_run=old.run_id,
        new_run=new.run_id,
        changes=(*erasures, *fingerprint_changes, *version_changes),
        metrics=tuple(_compare_metrics(old.metrics(), new.metrics())),
    )


def _repeat_trials(tuning: TuningConfig, old: RunRecord) -> TuningConfig:
    """The search with as many trials as were recorded, instead of limits of time."""
    if tuning.minutes is None and tuning.timeout_minutes is None:
        return tuning
    limits = {"minutes": None, "timeout_minutes": None}
    return tuning.model_copy(update={**limits, "recorded_trials": old.count_trials()})


def _find_erasures(old: RunRecord) -> list[ValueDiff]:
    """The number of subjects that were erased from the run's records, if any were."""
    erased = old.tags.get(ERASED_SUBJECTS)
    return [ValueDiff("erased subjects", "0", erased)] if erased else []


def _load_record(reference: str) -> RunRecord:
    with tempfile.TemporaryDirectory() as folder:
        return load_run_record(reference, Path(folder))


def _version_changes(old: RunRecord) -> list[ValueDiff]:
    """Differences between the recorded code and environment and the current ones."""
    code = shorten_code_version(collect_code_version())
    environment = collect_environment()
    old_python = {"python": old.environment["python"]}
    new_python = {"python": environment["python"]}
    return [
        *_diff("code", old.code, code),
        *_diff("", old_python, new_python),
        *_diff("library", old.environment["libraries"], environment["libraries"]),
    ]


def _diff(kind: str, old: Mapping[str, str], new: Mapping[str, str]) -> list[ValueDiff]:
    """The values that differ."""
    diffs = [
        ValueDiff(f"{kind} {name}".strip(), old.get(name), new.get(name))
        for name in sorted({*old, *new})
    ]
    return [diff for diff in diffs if not diff.is_equal]


def _compare_metrics(
    old: Mapping[str, Mapping[str, float]], new: Mapping[str, Mapping[str, float]]
) -> Iterator[ValueDiff]:
    for model in sorted({*old, *new}):
        old_values = old.get(model, {})
        new_values = new.get(model, {})
        for metric in sorted({*old_values, *new_values}):
            name = f"{model} {metric.removeprefix('test.')}"
            yield ValueDiff(name, old_values.get(metric), new_values.get(metric))


@contextmanager
def _empty_store() -> Iterator[None]:
    """Use an empty store, which is deleted after the block."""
    folder = home() / "reruns" / uuid.uuid4().hex[:8]
    previous = os.environ.get(STORE)
    os.environ[STORE] = str(folder)
    try:
        yield
    finally:
        os.environ.pop(STORE)
        if previous is not None:
            os.environ[STORE] = previous
        shutil.rmtree(folder, ignore_errors=True)
