"""Registered versions with what their evaluation elsewhere needs."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flowsheet.errors import CheckFailed, UsageError
from flowsheet.evaluation.evidence import Evidence
from flowsheet.prediction.development import Development
from flowsheet.prediction.model_package import ModelPackage
from flowsheet.tracking import model_registry, registered_packages
from flowsheet.tracking.model_registry import ModelVersion
from flowsheet.tracking.run_records import RunRecord, load_run_record


@dataclass(frozen=True)
class EvaluatedModel:
    """A registered version that is evaluated."""

    name: str
    """In the evidence: the model's name in its experiment, with the version where it is given by
    several."""
    title: str
    """What people call it, with the version where ``name`` has it."""
    home_name: str
    """The model's name in its experiment."""
    version: ModelVersion
    package: ModelPackage
    development: Development
    record: RunRecord
    home: Evidence


def load_models(references: Sequence[str]) -> list[EvaluatedModel]:
    """The versions with their packages and the evidence of their experiments.

    Raises:
        UsageError: there is no such version, or one is given twice.
        CheckFailed: the tasks differ, or an earlier release trained a version.
    """
    versions = [model_registry.resolve_reference(reference) for reference in references]
    _check_distinct(versions)
    models = []
    with tempfile.TemporaryDirectory() as temporary:
        for i, version in enumerate(versions):
            package = registered_packages.load_package(version)
            if package.development is None:
                raise CheckFailed(
                    "an earlier release trained the model and kept neither its threshold nor a "
                    "list of its subjects",
                    where=version.reference,
                    todo="train it again with this release",
                )
            folder = Path(temporary) / str(i)
            folder.mkdir()
            record = load_run_record(version.reference, folder)
            home = Evidence.load(record.download_artifacts("evidence", folder))
            (name,) = record.models
            models.append(
                EvaluatedModel(
                    name=name,
                    title=home.titles[name],
                    home_name=name,
                    version=version,
                    package=package,
                    development=package.development,
                    record=record,
                    home=home,
                )
            )
    _check_tasks(models)
    counts = Counter(model.name for model in models)
    return [model if counts[model.name] == 1 else _add_version(model) for model in models]


def _add_version(model: EvaluatedModel) -> EvaluatedModel:
    version = f" ({model.version.reference})"
    return replace(model, name=model.name + version, title=model.title + version)


def _check_distinct(versions: Sequence[ModelVersion]) -> None:
    """Refuse a version that is given twice, such as by its number and by an alias."""
    counts = Counter(version.reference for version in versions)
    twice = [version for version, times in counts.items() if times > 1]
    if twice:
        raise UsageError(f"{', '.join(twice)} is given twice", todo="give each version once")


def _check_tasks(models: Sequence[EvaluatedModel]) -> None:
    first, *others = models
    expected = first.package.task.model_dump(exclude={"name"})
    for other in others:
        task = other.package.task.model_dump(exclude={"name"})
        differences = [
            f"task.{k} is {expected[k]} and {task[k]}" for k in task if task[k] != expected[k]
        ]
        if differences:
            raise CheckFailed(
                f"the tasks differ: {'; '.join(differences)}",
                where=f"{first.version.reference} and {other.version.reference}",
                todo="evaluate models of the same task together",
            )
