"""The card says what the record says, and nothing that it does not."""

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
from flowsheet.lifecycle.deployment.promotion import promote, rollback
from flowsheet.lifecycle.model_card import facts as cards
from flowsheet.tracking import model_registry
from flowsheet.tracking.run_records import load_run_record
from flowsheet.tracking.store import connect

SECTIONS = [
    "Intended use", "Cohort", "Inputs", "Training data", "Model", "Performance on held-out patients", "By subgroup",
    "Calibration", "Limits and caveats", "Decisions", "Provenance",
]  # fmt: skip
MANIFEST = Manifest(
    source=SourceEntry(name="simulated", licence="none needed"),
    fingerprint="e" * 64,
    tables={"stays": TableEntry(rows=2400, sha256="a" * 64)},
    counts={"stays": 2400, "stays_with_episode": 480},
    attrition=(("all stays", 6000), ("adults", 2400)),
    prevalence=(
        PrevalenceEntry(by="all", group="all", stays=2400, with_episode=480),
        PrevalenceEntry(by="site", group="north", stays=1000, with_episode=100),
        PrevalenceEntry(by="site", group="south", stays=1400, with_episode=380),
    ),
    quarantined=(QuarantineEntry(table="events", rule="plausible range", rows=31),),
    quarantined_share={"events": 0.02},
)


def evidence_of(registrar, version, tmp_path):
    return Evidence.load(
        load_run_record(f"{registrar.name}/{version}", tmp_path).download_artifacts(
            "evidence", tmp_path
        )
    )


def made(registrar, tmp_path, says="good", **how):
    version = registrar.register(says, judged=True, **how)
    tmp_path.mkdir(exist_ok=True)
    cards.keep(registrar.name, version, evidence_of(registrar, version, tmp_path), MANIFEST)
    return version


def section(text: str, name: str) -> str:
    return re.split(r"^## ", text.split(f"## {name}\n", 1)[1], maxsplit=1, flags=re.M)[0]


def test_every_section_is_filled_from_the_record(registrar, tmp_path):
    version = made(registrar, tmp_path)
    text = cards.card(f"{registrar.name}/{version}")
    assert re.findall(r"^## (.*)$", text, flags=re.M) == SECTIONS
    assert text.startswith(f"# Model card: {registrar.name} version {version}\n")
    assert "will the patient be septic at some time in the next 6 hours?" in section(
        text, "Intended use"
    )
    assert "| adults | 2,400 |" in section(text, "Cohort")
    assert "| site: south | 1,400 | 27.1% |" in section(text, "Cohort")
    assert "(hr, temp)" in section(text, "Inputs")
    assert f"| extract | `{'e' * 64}` |" in section(text, "Training data")
    assert "| l2 |" in section(text, "Model")
    assert registrar.config.name in section(text, "Provenance")
    assert "None so far." in section(text, "Decisions")
    assert not re.search(r"\bnan\b|None\b(?! so far)", text)


def test_figures_are_those_of_the_evidence(registrar, tmp_path):
    version = made(registrar, tmp_path)
    text = cards.card(f"{registrar.name}/{version}")
    board = evidence_of(registrar, version, tmp_path).leaderboard
    for subset, place in (("all", "Performance on held-out patients"), ("sex: F", "By subgroup")):
        row = board.filter(model="logistic", metric="auroc", subset=subset).row(0, named=True)
        assert f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]" in section(text, place)
    slope = board.filter(model="logistic", metric="calibration_slope", subset="all")["value"].item()
    assert f"{slope:.3f} [" in section(text, "Calibration")


def test_it_is_kept_beside_the_run_and_linked(registrar, tmp_path):
    version = made(registrar, tmp_path)
    found = model_registry.get_version(registrar.name, version)
    folder = tmp_path / "kept"
    folder.mkdir()
    kept = model_registry.download_run_artifact(found, "card", folder)
    assert (kept / "MODEL_CARD.md").read_text() == cards.card(f"{registrar.name}/{version}")
    description = connect().get_model_version(registrar.name, str(version)).description
    assert f"runs/{found.run_id}/artifacts/card/MODEL_CARD.md" in description
    cards.keep(registrar.name, version, evidence_of(registrar, version, tmp_path), MANIFEST)
    assert connect().get_model_version(registrar.name, str(version)).description == description


def test_limits_are_found_not_recited(registrar, tmp_path):
    good, bad = (
        made(registrar, tmp_path / "a", "good"),
        made(registrar, tmp_path / "b", "overconfident"),
    )
    said = [section(cards.card(f"{registrar.name}/{v}"), "Limits and caveats") for v in (good, bad)]
    for text in said:
        assert "Its patients are simulated" in text
        assert "2.0% of the rows of events broke a rule" in text
        assert "Only 2,400 of 6,000 stays" in text
        assert "the same 2 sites" not in text  # of simulated patients everything is said already
        assert "worse for" not in text
    assert "calibration slope" not in said[0]
    assert "high risks are overstated" in said[1]


def test_without_a_manifest_it_says_so(registrar, tmp_path):
    version = registrar.register("good", judged=True)
    text = cards.card(f"{registrar.name}/{version}")
    assert "keeps no description of the cohort" in section(text, "Cohort")
    assert "How the cohort was selected is not in the record." in section(
        text, "Limits and caveats"
    )


def test_decisions_are_those_of_the_version(registrar, tmp_path):
    first, second = (registrar.register("good", judged=True) for _ in range(2))
    gates = PromotionConfig(
        name="quick", rule="not_worse", margin=0.01, resamples=100, latency_ms=60_000
    )
    promote(registrar.name, first, gates, actor="ada", reason="the first")
    promote(registrar.name, second, gates, actor="bob", reason="the second")
    rollback(registrar.name, actor="eve", reason="alarms all night")
    text = section(
        cards.card(registrar.name), "Decisions"
    )  # the champion's, which is the first one again
    assert [line.split(" | ")[4] for line in text.splitlines()[3:] if line] == ["ada", "bob", "eve"]
    assert "alarms all night" in text
    promote(
        registrar.name,
        first,
        gates,
        service=f"{registrar.name}-place",
        actor="dan",
        reason="to its place",
    )
    assert "ada" in section(cards.card(f"{registrar.name}-place@champion"), "Decisions")


def test_what_cannot_be_described_is_said(registrar):
    version = registrar.register("good")
    with pytest.raises(UsageError, match="no registered model"):
        cards.card("nobody")
    with pytest.raises(UsageError, match="no version with the alias 'champion'"):
        cards.card(registrar.name)
    with pytest.raises((CheckFailed, FileNotFoundError)):
        cards.card(f"{registrar.name}/{version}")
