"""The model card of a registered version: rendered on demand, and saved when it is registered."""

from __future__ import annotations

import tempfile
from pathlib import Path

from flowsheet.cohort.extract import Manifest
from flowsheet.evaluation.evidence import Evidence
from flowsheet.evaluation.study import StudyFacts
from flowsheet.lifecycle.model_card.facts import (
    CARD_FOLDER,
    MANIFEST_FILE,
    ModelFacts,
    collect_facts,
    load_facts,
)
from flowsheet.lifecycle.model_card.limitations import find_limitations
from flowsheet.lifecycle.model_card.template import render_markdown
from flowsheet.state.json_files import write_json
from flowsheet.tracking import model_registry
from flowsheet.tracking.runs import Tracker

CARD_FILE = "MODEL_CARD.md"


def render_card(reference: str) -> str:
    """The current model card of a registered version, as Markdown.

    ``reference`` is ``NAME/VERSION``, ``NAME@ALIAS``, or ``NAME`` for its champion.

    Raises:
        UsageError: there is no such version.
        CheckFailed: its run has no evidence.
    """
    version = model_registry.resolve_reference(reference)
    with tempfile.TemporaryDirectory() as folder:
        return _render(load_facts(version, Path(folder)))


def save_card(
    name: str,
    version: int,
    evidence: Evidence,
    manifest: Manifest,
    study: StudyFacts | None = None,
) -> None:
    """Save the card of a new version with its MLflow run, and link it in the version's description.

    Args:
        name: the registered model's name.
        version: the registered version.
        evidence: the evidence of its experiment.
        manifest: the manifest of the extract that it was trained on.
        study: outcome, participants, predictors and missing data of its experiment.
    """
    model_version = model_registry.get_version(name, version)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if model_registry.download_run_artifact(model_version, CARD_FOLDER, folder) is None:
            facts = collect_facts(model_version, evidence, manifest, folder, study)
            if facts.model not in evidence.models:
                return  # the version was registered by an earlier run, which had other evidence
            card_folder = folder / CARD_FOLDER
            card_folder.mkdir()
            (card_folder / CARD_FILE).write_text(_render(facts), encoding="utf-8")
            write_json(card_folder / MANIFEST_FILE, manifest.model_dump(mode="json"))
            if study:
                study.save(card_folder)
            Tracker.open().log_artifacts(model_version.run_id, card_folder, CARD_FOLDER)
    model_registry.link_artifact(model_version, "Model card", f"{CARD_FOLDER}/{CARD_FILE}")


def _render(facts: ModelFacts) -> str:
    return render_markdown(facts, find_limitations(facts))
