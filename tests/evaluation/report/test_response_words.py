"""Reports speak of the response that the task asks about, and of no other."""

import dataclasses
import re

import polars as pl
import pytest

from flowsheet.cohort.responses.base import RESPONSES, find_words
from flowsheet.config import TaskConfig
from flowsheet.evaluation.evidence import evaluate
from flowsheet.evaluation.leaderboard import render_leaderboard_markdown
from flowsheet.evaluation.report import render
from flowsheet.evaluation.report.bedside import make_bedside
from flowsheet.evaluation.study.participants import trace_stays
from tests.evaluation.report.helpers import WITHOUT_RESAMPLES, check_html, make_report

SEPSIS = re.compile(r"septic|sepsis", re.IGNORECASE)
UNDEFINED = "delirium"
"""A response of somebody's own tables, of which no more than the name is known."""
OTHERS = sorted({*RESPONSES.names(), UNDEFINED} - {"sepsis"})


def make_report_of(response, sequences, predictions):
    report = make_report(sequences, predictions, response=response, config=WITHOUT_RESAMPLES)
    parts = report.cohort.parts.with_columns(new_onset_rows=pl.lit(2), new_onsets=pl.lit(1))
    return dataclasses.replace(report, cohort=dataclasses.replace(report.cohort, parts=parts))


@pytest.mark.parametrize("response", OTHERS)
def test_results_name_no_sepsis_where_the_task_is_about_something_else(
    response, sequences, predictions
):
    report = make_report_of(response, sequences, predictions)
    evidence = report.evidence
    markdown = render_leaderboard_markdown(evidence)
    summaries = " ".join(evidence.pairs["summary"])
    bedside = make_bedside(evidence, report.task)
    for text in (markdown, summaries, evidence.headline, report.question, str(bedside)):
        assert not SEPSIS.search(text)
    for text in (summaries, evidence.headline):
        assert f"patients {find_words(response).not_yet}" in text
    assert f"(patients not {find_words(response).state} at prediction)" in markdown


def test_a_page_about_kidney_injury_names_no_sepsis(sequences, predictions):
    page = check_html(render(make_report_of("aki", sequences, predictions)))
    assert not SEPSIS.search(page)
    assert page.count("patients not yet in kidney injury") >= 5


def test_the_words_of_a_task_about_kidney_injury(sequences, predictions):
    evidence = make_report_of("aki", sequences, predictions).evidence
    assert "among patients not yet in kidney injury (0." in evidence.headline
    assert "patients who are already in kidney injury included" in evidence.headline
    markdown = render_leaderboard_markdown(evidence)
    assert "Per stay (the highest probability before the first acute kidney injury)" in markdown


@pytest.mark.parametrize("response", ["label", UNDEFINED])
def test_a_response_of_which_only_the_name_is_known_has_neutral_words(response):
    assert find_words(response).not_yet == "not yet with the outcome"


def test_a_death_is_not_called_the_first_one():
    assert find_words("death").first_onset == "death"
    assert find_words("label").first_onset == "the first labelled event"


def test_evidence_of_earlier_releases_is_of_sepsis(sequences, predictions):
    evidence = evaluate(sequences, predictions, WITHOUT_RESAMPLES, seed=1)
    about = {name: value for name, value in evidence.about.items() if name != "response"}
    assert dataclasses.replace(evidence, about=about).words.state == "septic"


def test_the_response_is_kept_with_the_evidence(sequences, predictions, tmp_path):
    evidence = make_report_of("aki", sequences, predictions).evidence
    evidence.save(tmp_path)
    assert type(evidence).load(tmp_path).words.state == "in kidney injury"


@pytest.mark.parametrize(
    ("response", "has_subset"), [("sepsis", True), ("aki", False), (UNDEFINED, False)]
)
def test_rows_before_anti_infectives_matter_where_these_treat_the_response(
    response, has_subset, sequences, predictions
):
    known = dataclasses.replace(sequences, before_treatment=sequences.step <= 3)
    task = TaskConfig(name="t", response=response, step_hours=6, horizon=1, censor="keep")
    evidence = evaluate(known, predictions, WITHOUT_RESAMPLES, seed=1, task=task)
    assert ("before_treatment" in evidence.about["subsets"]) is has_subset


@pytest.mark.parametrize(
    ("response", "step"),
    [
        ("sepsis", "before the first sepsis at the time of a prediction"),
        ("death", "before death at the time of a prediction"),
        ("label", "before the first labelled event at the time of a prediction"),
    ],
)
def test_the_flow_of_participants_speaks_of_the_response(response, step):
    windows = {
        "stays": 9,
        "rows": 40,
        "scored_stays": 8,
        "left_out": {"after_onset": {"rows": 5, "stays": 1}},
    }
    flow = trace_stays((("in the extract", 9),), 9, windows, find_words(response))
    assert step in [entry.step for entry in flow]
