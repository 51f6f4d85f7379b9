"""The report shows the evidence, loads nothing, and escapes every name."""

import dataclasses

import numpy as np
import polars as pl
import pytest

from flowsheet.evaluation.alert_policy import make_policies
from flowsheet.evaluation.evidence import evaluate
from flowsheet.evaluation.report import ModelReport, ReportData, render
from flowsheet.evaluation.report.tables import make_leaderboards
from tests.evaluation.report.helpers import CONFIG, WITHOUT_RESAMPLES, check_html, make_report

MARKUP_NAME = '<img src="http://example.com/x.png" onerror=alert(1)>&"\''


def escape(text):
    return text.replace("<", "&lt;")


@pytest.fixture(scope="module")
def report(sequences, predictions):
    return make_report(sequences, predictions)


@pytest.fixture(scope="module")
def page(report):
    return check_html(render(report))


@pytest.fixture(scope="module")
def evidence_of_one_model(sequences, predictions):
    return evaluate(sequences, {"only": predictions["accurate"]}, WITHOUT_RESAMPLES, seed=1)


def test_the_headline_and_the_pair_summaries_are_on_the_page(report, page):
    pairs = report.evidence.pairs.filter(metric="auroc", subset="new_onsets")
    for summary in (report.evidence.headline, *pairs["summary"]):
        assert escape(summary) in page


@pytest.mark.parametrize(
    "text",
    [
        "will the patient be septic",
        "Hold-out: a random 20% of the subjects",
        "Cohort selection",
        "5,678 time steps",
        "&lt;5",
        "SOFA: renal: creatinine",
        "It ends with 48 h without antimicrobials.",
        "Option that differs from its default",
        "13 of them new onsets, for 100 input columns: 0.1 new onsets per column",
        "No score of everyday care",
        "carried forward for 48 h",
        "Agreement of definitions",
        "0.81",
        "New onsets</dt>",
        "Quarantined rows",
        "1,234",
        "4,567",
        "Prevalence",
        "20.0%",
        "Missingness",
        "New onsets (patients not septic at prediction)",
        "Per stay",
        "Threshold probability",
        "Decision curves",
        "Median lead time, days",
        "Right alerts",
        "Onsets found",
        "patient-day",
        "<th>F</th>",
        "Tuning history",
        "Training curve",
        "Coefficients",
        "[+0.304, +0.696]",
        "Importance of the tuned",
        "3 complete, 1 failed",
        "1 min 15 s",
        "is excluded: the earlier",
        "What models remember",
        "f" * 64,
    ],
)
def test_every_section_is_on_the_page(page, text):
    assert text in page


def test_every_value_of_the_leaderboard_is_on_the_page(report, page):
    for row in report.evidence.leaderboard.filter(subset="all").iter_rows(named=True):
        cells = [f"<td>{row['value']:.{decimals}f}" for decimals in (3, 4)]
        assert any(cell in page for cell in cells), row


def test_without_a_study_the_flow_is_the_cohort_selection(report):
    page = check_html(render(dataclasses.replace(report, study=None)))
    assert "in the raw tables" in page
    assert "Characteristics" not in page


def test_sections_without_content_are_left_out(evidence_of_one_model):
    page = check_html(render(ReportData(title="minimal", evidence=evidence_of_one_model)))
    for section in ("cohort", "differences", "subgroups", "models", "record"):
        assert f'id="{section}"' not in page


def test_the_page_says_that_nothing_is_estimable(sequences, predictions):
    without_events = dataclasses.replace(sequences, y=np.zeros_like(sequences.y))
    evidence = evaluate(without_events, predictions, CONFIG, seed=1)
    page = check_html(render(ReportData(title="none", evidence=evidence)))
    assert "not estimable" in page
    assert "0 rows with the event" in page


def test_without_scored_rows_there_are_no_forest_plots(sequences, predictions):
    unscored = dataclasses.replace(sequences, scored=np.zeros_like(sequences.scored))
    evidence = evaluate(unscored, predictions, CONFIG, seed=1)
    check_html(render(ReportData(title="none", evidence=evidence)))
    assert not any(leaderboard.forest_plots for leaderboard in make_leaderboards(evidence))


def test_names_never_become_markup(sequences, predictions):
    page = check_html(render(make_report(sequences, predictions, name=MARKUP_NAME)))
    assert "onerror=alert(1)&gt;" in page
    assert '<img src="http' not in page


def make_trials(values, state="complete"):
    return pl.DataFrame(
        {"number": list(range(len(values))), "state": [state] * len(values), "value": values},
        schema_overrides={"value": pl.Float64},
    )


@pytest.mark.parametrize(
    ("trials", "tables"),
    [
        (make_trials([0.1]), {}),
        (make_trials([None, None], state="failed"), {}),
        (pl.DataFrame(), {"training_curve": pl.DataFrame({"epoch": [1], "score": [0.1]})}),
        (
            pl.DataFrame(),
            {"coefficients": pl.DataFrame(schema={"term": pl.String, "estimate": pl.Float64})},
        ),
        (
            pl.DataFrame(),
            {"notes": pl.DataFrame({"a": ["x"], "b": ["y"]}), "one": pl.DataFrame({"a": [1.0]})},
        ),
        (make_trials([0.1, 0.1]), {"zero": pl.DataFrame({"t": ["a"], "v": [0.0]})}),
    ],
)
def test_model_tables_with_few_rows_are_drawn_or_left_out(evidence_of_one_model, trials, tables):
    model = ModelReport("only", trials=trials, tables=tables)
    check_html(render(ReportData(title="few", evidence=evidence_of_one_model, models=(model,))))


def test_too_few_trials_for_importance_are_explained(evidence_of_one_model):
    reason = "3 complete trials; at least 6 are needed for 1 parameter"
    model = ModelReport("only", importance_unavailable=reason)
    page = check_html(render(ReportData("few", evidence_of_one_model, models=(model,))))
    assert "not available, 3 complete trials" in page


def test_equal_reports_are_equal_pages(sequences, predictions, page):
    assert render(make_report(sequences, predictions)) == page


def test_there_may_be_more_models_than_colours(sequences, predictions):
    many = {f"model_{i}": np.clip(predictions["accurate"] + i / 100, 0, 1) for i in range(14)}
    evidence = evaluate(sequences, many, CONFIG, seed=1)
    check_html(render(ReportData(title="many", evidence=evidence)))


def test_models_are_called_by_their_titles_and_named_once(sequences, predictions):
    titles = {"accurate": "Accurate trees"}
    evidence = evaluate(sequences, predictions, WITHOUT_RESAMPLES, seed=1, titles=titles)
    models = (ModelReport(name="accurate"), ModelReport(name="noisy"))
    page = check_html(render(ReportData(title="t", evidence=evidence, models=models)))
    assert "Accurate trees" in page
    assert page.count("<code>accurate</code>") == 1
    assert "<code>noisy</code>" not in page


def test_the_first_screen_says_what_the_risks_follow_from(sequences, predictions):
    evidence = evaluate(sequences, predictions, WITHOUT_RESAMPLES, seed=1)
    shares = {"label": ["lactate", "vancomycin", "age"], "share": [0.6, 0.39, 0.01]}
    first = evidence.models[0]
    models = (ModelReport(name=first, tables={"global_importance": pl.DataFrame(shares)}),)
    page = check_html(render(ReportData(title="t", evidence=evidence, models=models)))
    assert "What moves its risks most, by share: lactate (60%) and vancomycin (39%)." in page


def test_alerts_of_the_floor_are_left_out_but_for_the_clock(sequences, predictions):
    p = predictions["accurate"]
    named = {"accurate": p, "clock": p * 0.9, "sofa": p * 0.8}
    policies = make_policies(dict.fromkeys(named, 0.3))
    evidence = evaluate(sequences, named, WITHOUT_RESAMPLES, seed=1, policies=policies)
    page = check_html(render(ReportData(title="t", evidence=evidence)))
    alerts = page[page.index('<section id="alerts">') :]
    alerts = alerts[: alerts.index("</table>")]
    assert "clock</th>" in alerts
    assert "sofa</th>" not in alerts
    assert "The floor is left out" in alerts
