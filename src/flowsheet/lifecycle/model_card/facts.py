"""The model card of a registered version: what a reader must know before using it, taken from the record alone."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowsheet.cohort.extract import Manifest
from flowsheet.config import EvaluationConfig, FeaturesConfig, TaskConfig
from flowsheet.evaluation.evidence import Evidence
from flowsheet.state.json_files import read_json, write_json
from flowsheet.tracking import model_registry
from flowsheet.tracking.decisions import Decision, load_decisions
from flowsheet.tracking.model_registry import ModelVersion
from flowsheet.tracking.run_records import RunRecord, load_run_record
from flowsheet.tracking.runs import Tracker

FOLDER, CARD, MANIFEST = "card", "MODEL_CARD.md", "manifest.json"


@dataclass(frozen=True)
class Facts:
    """What is known of a version."""

    version: ModelVersion
    model: str
    """Its name in its experiment."""
    record: RunRecord
    task: TaskConfig
    features: FeaturesConfig
    evaluation: EvaluationConfig
    evidence: Evidence
    model_package: Mapping[str, Any]
    """kind, params, columns, inputs, ... (see ``prediction.model_package``)."""
    manifest: Manifest | None
    """Of the cohort extract; None where the record keeps none."""
    decisions: tuple[Decision, ...]


def card(reference: str) -> str:
    """The card of ``NAME/VERSION``, ``NAME@ALIAS`` or ``NAME`` (its champion) as of now, as
    Markdown.

    Raises:
        UsageError: there is no such version.
        CheckFailed: its run keeps no evidence.
    """
    from flowsheet.lifecycle.model_card.template import markdown

    with tempfile.TemporaryDirectory() as temporary:
        return markdown(_recorded(model_registry.resolve_reference(reference), Path(temporary)))


def keep(name: str, version: int, evidence: Evidence, manifest: Manifest) -> None:
    """Write the card of a version that is being registered beside its run, and name it in its description."""
    from flowsheet.lifecycle.model_card.template import markdown

    found = model_registry.get_version(name, version)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if model_registry.download_run_artifact(found, FOLDER, folder) is None:
            facts = _facts(found, evidence, manifest, folder)
            if facts.model not in evidence.models:
                return  # an earlier run made the version, and this is not its evidence
            (folder / FOLDER).mkdir()
            (folder / FOLDER / CARD).write_text(markdown(facts))
            write_json(folder / FOLDER / MANIFEST, manifest.model_dump(mode="json"))
            Tracker.open().log_artifacts(found.run_id, folder / FOLDER, FOLDER)
    model_registry.link_artifact(found, "Model card", f"{FOLDER}/{CARD}")


def _recorded(version: ModelVersion, folder: Path) -> Facts:
    kept = model_registry.download_run_artifact(version, FOLDER, folder)
    manifest = Manifest.model_validate(read_json(kept / MANIFEST)) if kept else None
    evidence = load_run_record(f"{version.name}/{version.version}", folder).download_artifacts(
        "evidence", folder
    )
    return _facts(version, Evidence.load(evidence), manifest, folder)


def _facts(
    version: ModelVersion, evidence: Evidence, manifest: Manifest | None, folder: Path
) -> Facts:
    record = load_run_record(f"{version.name}/{version.version}", folder)
    about = model_registry.read_package_info(version)
    return Facts(
        version=version,
        model=record.models[0],
        record=record,
        task=TaskConfig.model_validate(about["task"]),
        features=FeaturesConfig.model_validate(about["features"]),
        evaluation=EvaluationConfig.model_validate(record.config["evaluation"]),
        evidence=evidence,
        model_package=about,
        manifest=manifest,
        decisions=_decisions(version),
    )


def _decisions(version: ModelVersion) -> tuple[Decision, ...]:
    """Those about the version, and about the one that it was taken from to serve under another name."""
    known = {(version.name, version.version), model_registry.get_source_version(version)}
    return tuple(
        d
        for d in load_decisions()
        if (d.name, d.version) in known or (d.name, d.previous_version) in known
    )
