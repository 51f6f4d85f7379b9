"""Every item of TRIPOD+AI is filled from the record, or left open for the authors."""

from __future__ import annotations

import dataclasses
import re

import polars as pl
import pytest

from flowsheet.cohort.extract import Manifest, PrevalenceEntry, SourceEntry, TableEntry
from flowsheet.evaluation.evidence import evaluate
from flowsheet.evaluation.study.facts import (
    Characteristic,
    Characteristics,
    FlowStep,
    LeftOut,
    Outcome,
    Overlap,
    SampleSize,
    StudyFacts,
)
from flowsheet.lifecycle.checklist.answers import ANSWERS
from flowsheet.lifecycle.checklist.checklist import OPEN, load_items, render
from flowsheet.lifecycle.checklist.record import StudyRecord
from flowsheet.tracking.run_records import RunRecord
from tests.evaluation.conftest import CONFIG, simulate_predictions, simulate_stays
from tests.tiny import experiment

NUMBERS = [
    "1",
    "2",
    "3a",
    "3b",
    "3c",
    "4",
    "5a",
    "5b",
    "6a",
    "6b",
    "6c",
    "7",
    "8a",
    "8b",
    "8c",
    "9a",
    "9b",
    "9c",
    "10",
    "11",
    "12a",
    "12b",
    "12c",
    "12d",
    "12e",
    "12f",
    "12g",
    "13",
    "14",
    "15",
    "16",
    "17",
    "18a",
    "18b",
    "18c",
    "18d",
    "18e",
    "18f",
    "19",
    "20a",
    "20b",
    "20c",
    "21",
    "22",
    "23a",
    "23b",
    "24",
    "25",
    "26",
    "27a",
    "27b",
    "27c",
]
MANIFEST = Manifest(
    source=SourceEntry(name="mimic3", licence="PhysioNet Credentialed", input="a" * 64),
    fingerprint="e" * 64,
    tables={"stays": TableEntry(rows=150, sha256="b" * 64)},
    counts={"subjects": 150, "stays": 187, "events": 9000, "treatments": 12},
    attrition=(("in the raw tables", 200), ("age >= 18", 187)),
    prevalence=(
        PrevalenceEntry(by="unit", group="MICU", stays=100, with_episode=20, response="sepsis"),
    ),
    variables=("crea", "hr"),
    drugs=("vancomycin",),
)
STUDY = StudyFacts(
    outcome=Outcome(title="Sepsis-3", changed_options=(("criterion", "rise", "level"),)),
    overlap=(Overlap(part="SOFA: renal", inputs=("creatinine",)),),
    flow=(FlowStep(step="age >= 18", stays=187), FlowStep(step="predicted", stays=83)),
    rows=900,
    left_out=(LeftOut(reason="the target window outlasts the stay", rows=11, stays=104),),
    characteristics=Characteristics(
        columns=("All", "Test"), rows=(Characteristic(label="Female", cells=("70", "<5")),)
    ),
    missing_data=("The last known value is carried forward for 48 h.",),
    sample_size=SampleSize(columns=100, events=900, new_onsets=13),
    agreement=({"definition": "SOFA-2", "kappa": "0.81"},),
)


@pytest.fixture(scope="module")
def record():
    sequences, signal = simulate_stays()
    sex = [("F", "M")[i % 2] for i in range(len(sequences))]
    site = [("A", "B")[i % 2] for i in range(len(sequences))]
    groups = pl.DataFrame({"stay_id": sequences.stay_id, "sex": sex, "site": site})
    predictions = {"logistic": simulate_predictions(signal)["accurate"]}
    evidence = evaluate(sequences, predictions, CONFIG, seed=1, subgroups=groups)
    config = experiment("ward")
    run = RunRecord(
        run_id="3f2a9c1e" * 4,
        experiment="ward",
        models=("logistic",),
        label="3f2a9c1e",
        config=config.model_dump(mode="json"),
        environment={},
        params={},
        tags={"flowsheet.version": "0.1.0"},
    )
    return StudyRecord(
        run, evidence, STUDY, MANIFEST, config.task, config.features, config.evaluation
    )


@pytest.fixture(scope="module")
def text(record):
    return render(record)


def item(text, number):
    after = text.split(f"\n### {number}. ", 1)[1]
    return re.split(r"^##+ ", after, maxsplit=1, flags=re.M)[0]


def test_every_item_of_the_statement_is_there_in_its_order(text):
    assert re.findall(r"^### (\w+)\. ", text, flags=re.M) == NUMBERS
    assert {int(re.match(r"\d+", number)[0]) for number in NUMBERS} == set(range(1, 28))


def test_no_item_is_empty(text):
    for number in NUMBERS:
        body = item(text, number).split("\n", 1)[1].strip()
        assert body, number
        assert not re.search(r"\b(nan|None)\b", body), number


def test_items_and_answers_match():
    used = {name for section in load_items() for entry in section.items for name in entry.answers}
    assert used == set(ANSWERS)


@pytest.mark.parametrize(
    ("number", "fact"),
    [
        ("5a", "150 subjects, 187 stays"),
        ("6b", "in the raw tables; age >= 18"),
        ("8a", "| criterion | rise | level |"),
        ("8a", "| SOFA-2 | 0.81 |"),
        ("8c", "SOFA: renal: creatinine"),
        ("10", "13 of them new onsets"),
        ("11", "carried forward for 48 h"),
        ("12d", "in each site"),
        ("14", "in groups by sex and site"),
        ("18e", "PhysioNet Credentialed"),
        ("18f", "flowsheet rerun 3f2a9c1e"),
        ("20a", "| predicted | 83 |"),
        ("20a", "| the target window outlasts the stay | 11 | 104 |"),
        ("20b", "| Female | 70 | <5 |"),
        ("23a", "| sex: F |"),
        ("23b", "| site: A |"),
        ("26", "No score of everyday care"),
    ],
)
def test_facts_of_the_record_fill_the_items(text, number, fact):
    assert fact in item(text, number)


@pytest.mark.parametrize("number", ["3a", "5b", "17", "18a", "18b", "19", "25", "27c"])
def test_what_only_the_authors_know_is_left_open(text, number):
    assert f"**{OPEN}:**" in item(text, number)


def test_performance_is_told_for_patients_not_yet_septic_first(record, text):
    assert record.evidence.headline in item(text, "23a")
    assert "among patients not yet septic" in item(text, "23a")


def test_an_outcome_that_the_source_states_is_left_to_the_authors(record):
    outcome = Outcome(title="As stated", is_computed=False)
    study = STUDY.model_copy(update={"outcome": outcome})
    assert OPEN in item(render(dataclasses.replace(record, study=study)), "8b")
