"""What a checklist is filled from: the MLflow record of an experiment's run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowsheet.cohort.extract import Manifest
from flowsheet.config import EvaluationConfig, FeaturesConfig, TaskConfig
from flowsheet.config.validation import validate_recorded
from flowsheet.errors import CheckFailed
from flowsheet.evaluation.evidence import Evidence
from flowsheet.evaluation.study import StudyFacts
from flowsheet.evaluation.study.facts import MANIFEST_FILE, STUDY_FILE
from flowsheet.state.json_files import read_json
from flowsheet.tracking.run_records import RunRecord, load_run_record


@dataclass(frozen=True)
class StudyRecord:
    """The record of an experiment's run, as far as the checklist needs it."""

    run: RunRecord
    evidence: Evidence
    study: StudyFacts
    manifest: Manifest
    task: TaskConfig
    features: FeaturesConfig
    evaluation: EvaluationConfig

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration."""
        return dict(self.run.config)


def load_study_record(reference: str, folder: Path) -> StudyRecord:
    """Load the record of a run; its artifacts are downloaded to ``folder``.

    Args:
        reference: a run id, ``NAME/VERSION`` or ``NAME@ALIAS``.
        folder: an existing folder.

    Raises:
        UsageError: there is no such run.
        CheckFailed: the run has no evidence, or was recorded before the facts about the study were.
    """
    run = load_run_record(reference, folder)
    evidence = Evidence.load(run.download_artifacts("evidence", folder))
    report = run.download_artifacts("report", folder)
    study = StudyFacts.load(report)
    if study is None or not (report / MANIFEST_FILE).is_file():
        raise CheckFailed(
            f"the report of the run lacks {STUDY_FILE} or {MANIFEST_FILE}: an earlier release "
            "recorded it",
            where=f"run {run.run_id}",
            todo="run the experiment again with this release",
        )
    return StudyRecord(
        run=run,
        evidence=evidence,
        study=study,
        manifest=validate_recorded(
            Manifest, read_json(report / MANIFEST_FILE), f"run {run.run_id}, manifest"
        ),
        task=run.read_config("task", TaskConfig),
        features=run.read_config("features", FeaturesConfig),
        evaluation=run.read_config("evaluation", EvaluationConfig),
    )
