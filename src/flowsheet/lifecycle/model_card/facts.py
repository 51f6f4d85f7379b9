"""What a model card is based on: the record of a registered version, collected from MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowsheet.cohort.extract import Manifest
from flowsheet.config import EvaluationConfig, FeaturesConfig, TaskConfig
from flowsheet.config.validation import validate_recorded
from flowsheet.evaluation.evidence import Evidence
from flowsheet.evaluation.study import StudyFacts
from flowsheet.state.json_files import read_json
from flowsheet.tracking import model_registry, registered_packages
from flowsheet.tracking.decisions import Decision, load_decisions
from flowsheet.tracking.evaluation_runs import RecordedEvaluation, list_evaluations
from flowsheet.tracking.model_registry import ModelVersion
from flowsheet.tracking.run_records import RunRecord, load_run_record

CARD_FOLDER = "card"
"""Artifact folder of the model's MLflow run."""
MANIFEST_FILE = "manifest.json"


@dataclass(frozen=True)
class ModelFacts:
    """Everything that is recorded about a registered version."""

    version: ModelVersion
    model: str
    """The model's name in its experiment."""
    record: RunRecord
    task: TaskConfig
    features: FeaturesConfig
    evaluation: EvaluationConfig
    evidence: Evidence
    package: Mapping[str, Any]
    """kind, params, columns, inputs, ... (see ``flowsheet.prediction.model_package``)."""
    manifest: Manifest | None
    """Manifest of the cohort extract; None if the run does not have it."""
    study: StudyFacts | None
    """Outcome, participants, predictors and missing data; None if the run does not have them."""
    decisions: tuple[Decision, ...]
    evaluations: tuple[RecordedEvaluation, ...] = ()
    """On other extracts."""


def load_facts(version: ModelVersion, folder: Path) -> ModelFacts:
    """Load the facts about a registered version; artifacts are downloaded to ``folder``.

    Raises:
        CheckFailed: the run has no evidence.
    """
    card_folder = model_registry.download_run_artifact(version, CARD_FOLDER, folder)
    manifest = study = None
    if card_folder:
        manifest = validate_recorded(
            Manifest, read_json(card_folder / MANIFEST_FILE), f"{version.name}/{version.version}"
        )
        study = StudyFacts.load(card_folder)
    record = load_run_record(f"{version.name}/{version.version}", folder)
    evidence = Evidence.load(record.download_artifacts("evidence", folder))
    return collect_facts(version, evidence, manifest, folder, study)


def collect_facts(
    version: ModelVersion,
    evidence: Evidence,
    manifest: Manifest | None,
    folder: Path,
    study: StudyFacts | None = None,
) -> ModelFacts:
    """Collect the facts about a version whose evidence and manifest are at hand.

    Args:
        version: the registered version.
        evidence: the evidence of its experiment.
        manifest: the manifest of the extract that it was trained on, if known.
        folder: where artifacts are downloaded to.
        study: outcome, participants, predictors and missing data, if known.
    """
    label = f"{version.name}/{version.version}"
    record = load_run_record(label, folder)
    package = registered_packages.read_package_info(version)
    return ModelFacts(
        version=version,
        model=record.models[0],
        record=record,
        task=validate_recorded(TaskConfig, package["task"], label),
        features=validate_recorded(FeaturesConfig, package["features"], label),
        evaluation=record.read_config("evaluation", EvaluationConfig),
        evidence=evidence,
        package=package,
        manifest=manifest,
        study=study,
        decisions=_find_decisions(version),
        evaluations=tuple(list_evaluations(version)),
    )


def _find_decisions(version: ModelVersion) -> tuple[Decision, ...]:
    """Decisions about the version, and about the version that it is a copy of."""
    versions = {(version.name, version.version), model_registry.get_source_version(version)}
    return tuple(
        decision
        for decision in load_decisions()
        if (decision.name, decision.version) in versions
        or (decision.name, decision.previous_version) in versions
    )
