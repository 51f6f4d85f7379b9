"""The model card contains what is recorded, and nothing else."""

from __future__ import annotations

import re

import pytest

from flowsheet.cohort.extract import (
    Manifest,
    PrevalenceEntry,
    QuarantineEntry,
    SourceEntry,
    TableEntry,
)
from flowsheet.config import PromotionConfig
from flowsheet.errors import CheckFailed, UsageError
from flowsheet.evaluation.evidence import Evidence
from flowsheet.evaluation.study.facts import FlowStep, Outcome, Overlap, SampleSize, StudyFacts
from flowsheet.lifecycle.deployment.promotion import promote, rollback
from flowsheet.lifecycle.model_card.card import render_card, save_card
from flowsheet.tracking import model_registry
from flowsheet.tracking.run_records import load_run_record
from flowsheet.tracking.store import connect

SECTIONS = [
    "Intended use",
    "Outcome",
    "Cohort",
    "Inputs",
    "Training data",
    "Model",
    "Performance on held-out patients",
    "By subgroup",
    "Calibration",
    "Evaluations on other extracts and of answers",
    "Limitations",
    "Decisions",
    "Provenance",
]
MANIFEST = Manifest(
    source=SourceEntry(name="simulated", licence="none needed"),
    fingerprint="e" * 64,
    tables={"stays": TableEntry(rows=2400, sha256="a" * 64)},
    counts={"stays": 2400, "stays_with_episode": 480},
    attrition=(("all stays", 6000), ("adults", 2400)),
    prevalence=(
        PrevalenceEntry(by="all", group="all", stays=2400, with_episode=480, response="sepsis"),
        PrevalenceEntry(by="site", group="north", stays=1000, with_episode=100, response="sepsis"),
        PrevalenceEntry(by="site", group="south", stays=1400, with_episode=380, response="sepsis"),
    ),
    quarantined=(QuarantineEntry(table="events", rule="plausible range", rows=31),),
    quarantined_share={"events": 0.02},
)
STUDY = StudyFacts(
    outcome=Outcome(
        title="Sepsis-3",
        sentences=("Suspected infection with organ dysfunction.",),
        changed_options=(("criterion", "rise", "level"),),
    ),
    overlap=(Overlap(part="SOFA: renal", inputs=("creatinine",)),),
    flow=(
        FlowStep(step="all stays", stays=6000),
        FlowStep(step="adults", stays=2400),
        FlowStep(step="with an evaluated prediction", stays=2000),
    ),
    missing_data=("The last known value is carried forward for 48 h.",),
    sample_size=SampleSize(columns=100, events=900, new_onsets=150),
)


def load_evidence(registrar, version, tmp_path):
    record = load_run_record(f"{registrar.name}/{version}", tmp_path)
    return Evidence.load(record.download_artifacts("evidence", tmp_path))


def register_with_card(registrar, tmp_path, quality="good"):
    version = registrar.register(quality, with_evidence=True)
    tmp_path.mkdir(exist_ok=True)
    evidence = load_evidence(registrar, version, tmp_path)
    save_card(registrar.name, version, evidence, MANIFEST, STUDY)
    return version


def section(card: str, title: str) -> str:
    after_title = card.split(f"## {title}\n", 1)[1]
    return re.split(r"^## ", after_title, maxsplit=1, flags=re.M)[0]


def test_every_section_is_filled_from_the_record(registrar, tmp_path):
    version = register_with_card(registrar, tmp_path)
    card = render_card(f"{registrar.name}/{version}")
    assert re.findall(r"^## (.*)$", card, flags=re.M) == SECTIONS
    assert card.startswith(f"# Model card: {registrar.name} version {version}\n")
    question = "will the patient be septic at some time in the next 6 hours?"
    assert question in section(card, "Intended use")
    assert "Suspected infection with organ dysfunction." in section(card, "Outcome")
    assert "| criterion | rise | level |" in section(card, "Outcome")
    assert "| adults | 2,400 |" in section(card, "Cohort")
    assert "| with an evaluated prediction | 2,000 |" in section(card, "Cohort")
    assert "SOFA: renal: creatinine" in section(card, "Inputs")
    assert "carried forward for 48 h" in section(card, "Inputs")
    assert "150 of them new onsets, for 100 input columns" in section(card, "Training data")
    assert "1.5 events per input column" in section(card, "Limitations")
    assert "No score of everyday care" in section(card, "Limitations")
    assert "| site: south | 1,400 | 27.1% |" in section(card, "Cohort")
    assert "(hr, temp)" in section(card, "Inputs")
    assert f"| extract | `{'e' * 64}` |" in section(card, "Training data")
    assert "| l2 |" in section(card, "Model")
    assert registrar.config.name in section(card, "Provenance")
    assert "None so far." in section(card, "Decisions")
    assert not re.search(r"\bnan\b|None\b(?! so far)", card)


def test_a_card_speaks_of_the_response_of_its_task(registrar, tmp_path):
    registrar.config = registrar.config.model_copy(update={"description": ""})
    version = registrar.register(
        "good", task={"response": "aki"}, with_evidence=True, with_states=True
    )
    tmp_path.mkdir(exist_ok=True)
    evidence = load_evidence(registrar, version, tmp_path)
    outcome = Outcome(title="Acute kidney injury", sentences=())
    study = STUDY.model_copy(update={"outcome": outcome})
    manifest = MANIFEST.model_copy(update={"prevalence": ()})
    save_card(registrar.name, version, evidence, manifest, study)
    card = render_card(f"{registrar.name}/{version}")
    assert re.findall("(?i).*(?:septic|sepsis).*", card) == []
    assert "New onsets (patients not in kidney injury at prediction)" in card


def test_the_layout_is_valid_markdown(registrar, tmp_path):
    version = register_with_card(registrar, tmp_path)
    card = render_card(f"{registrar.name}/{version}")
    assert "\n\n\n" not in card
    assert card.endswith(".\n")
    for block in card.split("\n\n"):
        is_table_line = [line.startswith("| ") for line in block.splitlines()]
        assert all(is_table_line) or not any(is_table_line)


def test_metrics_are_those_of_the_evidence(registrar, tmp_path):
    version = register_with_card(registrar, tmp_path)
    card = render_card(f"{registrar.name}/{version}")
    leaderboard = load_evidence(registrar, version, tmp_path).leaderboard
    for subset, title in (("all", "Performance on held-out patients"), ("sex: F", "By subgroup")):
        row = leaderboard.filter(model="logistic", metric="auroc", subset=subset).row(0, named=True)
        assert f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]" in section(card, title)
    slope = leaderboard.filter(model="logistic", metric="calibration_slope", subset="all")
    assert f"{slope['value'].item():.3f} [" in section(card, "Calibration")


def test_the_card_is_saved_with_the_run_and_linked(registrar, tmp_path):
    version = register_with_card(registrar, tmp_path)
    model_version = model_registry.get_version(registrar.name, version)
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    card_folder = model_registry.download_run_artifact(model_version, "card", downloads)
    saved_card = (card_folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert saved_card == render_card(f"{registrar.name}/{version}")
    description = connect().get_model_version(registrar.name, str(version)).description
    assert f"runs/{model_version.run_id}/artifacts/card/MODEL_CARD.md" in description


def test_saving_the_card_again_changes_nothing(registrar, tmp_path):
    version = register_with_card(registrar, tmp_path)
    before = connect().get_model_version(registrar.name, str(version)).description
    save_card(registrar.name, version, load_evidence(registrar, version, tmp_path), MANIFEST)
    after = connect().get_model_version(registrar.name, str(version)).description
    assert after == before


def test_only_limitations_that_apply_are_listed(registrar, tmp_path):
    good = register_with_card(registrar, tmp_path / "a", "good")
    overconfident = register_with_card(registrar, tmp_path / "b", "overconfident")
    of_good = section(render_card(f"{registrar.name}/{good}"), "Limitations")
    of_overconfident = section(render_card(f"{registrar.name}/{overconfident}"), "Limitations")
    for limitations in (of_good, of_overconfident):
        assert "The patients are simulated" in limitations
        assert "2.0% of the rows of events failed validation" in limitations
        assert "Only 2,400 of 6,000 stays" in limitations
        assert "the same 2 sites" not in limitations  # it is pointless for simulated patients
        assert "worse for" not in limitations
    assert "calibration slope" not in of_good
    assert "high risks are overestimated" in of_overconfident


def test_a_card_of_an_earlier_release_has_the_cohort_selection_only(registrar, tmp_path):
    version = registrar.register("good", with_evidence=True)
    evidence = load_evidence(registrar, version, tmp_path)
    save_card(registrar.name, version, evidence, MANIFEST)
    card = render_card(f"{registrar.name}/{version}")
    assert "| adults | 2,400 |" in section(card, "Cohort")
    assert "## Outcome" not in card


def test_a_missing_manifest_is_mentioned(registrar):
    version = registrar.register("good", with_evidence=True)
    card = render_card(f"{registrar.name}/{version}")
    assert "has no description of the cohort" in section(card, "Cohort")
    assert "does not say how the cohort was selected." in section(card, "Limitations")


def test_the_decisions_are_those_about_the_version(registrar):
    first = registrar.register("good", with_evidence=True)
    second = registrar.register("good", with_evidence=True)
    gates = PromotionConfig(
        name="quick", rule="not_worse", margin=0.01, resamples=100, latency_ms=60_000
    )
    promote(registrar.name, first, gates, actor="ada", reason="the first")
    promote(registrar.name, second, gates, actor="bob", reason="the second")
    rollback(registrar.name, actor="eve", reason="false alerts all night")
    decisions = section(render_card(registrar.name), "Decisions")  # the champion is the first again
    rows = [line.split(" | ") for line in decisions.splitlines()[3:] if line]
    assert [row[4] for row in rows] == ["ada", "bob", "eve"]
    assert "false alerts all night" in decisions
    service = f"{registrar.name}-service"
    promote(registrar.name, first, gates, service=service, actor="dan", reason="for the service")
    assert "ada" in section(render_card(f"{service}@champion"), "Decisions")


def test_versions_without_evidence_and_unknown_versions_are_refused(registrar):
    version = registrar.register("good")
    with pytest.raises(UsageError, match="no registered model"):
        render_card("unknown")
    with pytest.raises(UsageError, match="no version with the alias 'champion'"):
        render_card(registrar.name)
    with pytest.raises((CheckFailed, FileNotFoundError)):
        render_card(f"{registrar.name}/{version}")
