"""What scoring and monitoring begin with: a registered model, an extract, and batches of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from flowsheet.cohort.extract import Extract
from flowsheet.lifecycle.experiment.capacity import estimate_scoring
from flowsheet.lifecycle.experiment.extract_batches import (
    StayRange,
    check_variables,
    list_batches,
)
from flowsheet.lifecycle.runtime.resources import MIN_PIECES
from flowsheet.prediction.model_package import ModelPackage
from flowsheet.state.locations import Location, absolute_location
from flowsheet.state.memory import usable_memory
from flowsheet.tracking import model_registry, registered_packages
from flowsheet.tracking.model_registry import ModelVersion


class ModelOnExtract(NamedTuple):
    """A registered model, and the verified extract that it predicts."""

    version: ModelVersion
    model_package: ModelPackage
    extract: Extract


class BatchPlan(NamedTuple):
    """Batches of an extract that workers can build, each as a stage of its own."""

    model: str
    """``NAME/VERSION``."""
    extract: Location
    numbers: Sequence[int]
    """Of the batches that are not in the store, counted from 1 in the order of ``list_batches``."""
    memory: int
    """Bytes that the process takes which predicts the largest one."""

    def count_workers(self, workers: int, runner: str) -> int:
        """How many worker processes are worth it; 1: the batches are built where they are needed.

        Args:
            workers: the most processes.
            runner: what starts them; with ``process`` they share the memory of this machine.
        """
        if len(self.numbers) < MIN_PIECES:
            return 1
        if runner == "process":
            workers = min(workers, usable_memory() // self.memory)
        return max(1, workers)


def open_model_and_extract(model: str, extract: Location) -> ModelOnExtract:
    """Load a registered model and verify the extract, unless this process has done so before.

    Args:
        model: ``NAME@ALIAS`` or ``NAME/VERSION``.
        extract: folder of the cohort extract.

    Raises:
        UsageError: there is no such version.
        CheckFailed: the extract is incomplete or lacks most of the model's variables.
    """
    version = model_registry.resolve_reference(model)
    cohort = Extract.open(extract, verify=True)
    model_package = registered_packages.load_package_once(version)
    check_variables(cohort, model_package)
    return ModelOnExtract(version, model_package, cohort)


def plan_missing_batches(
    opened: ModelOnExtract, extract: Location, is_built: Callable[[StayRange], bool]
) -> BatchPlan:
    """The batches of an extract that the store does not have.

    Args:
        opened: the model and the extract.
        extract: folder of the extract.
        is_built: whether the store has a batch.
    """
    batches = enumerate(list_batches(opened.extract), start=1)
    return BatchPlan(
        model=opened.version.reference,
        extract=absolute_location(extract),
        numbers=[number for number, batch in batches if not is_built(batch)],
        memory=estimate_scoring(opened.extract, opened.model_package),
    )
