"""The page says what the evidence says, loads nothing, and lets no name become markup."""

import dataclasses
import re
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pytest

from flowsheet.config import EvaluationConfig, TaskConfig
from flowsheet.evaluation.evidence import evaluate
from flowsheet.evaluation.report import (
    CohortReport,
    ModelReport,
    ReportData,
    Section,
    charts,
    render,
)
from flowsheet.evaluation.report.data import describe_protocol, describe_task
from flowsheet.evaluation.report.tables import boards
from flowsheet.lifecycle.memory_study.report import memory_section
from tests.lifecycle.memory_study.test_report import study

CONFIG = EvaluationConfig(name="small", resamples=100)
NASTY = '<img src="http://example.com/x.png" onerror=alert(1)>&"\''
VOID = {"meta", "link", "br", "img", "hr", "input", "wbr"}


class Page(HTMLParser):
    """Tags, what they load, and whether every one is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.loads = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loads += [
            value
            for name, value in attrs
            if name in {"src", "href", "xlink:href", "data", "srcset"}
        ]
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def checked(text):
    page = Page(text)
    assert page.open == []
    assert "script" not in page.tags
    assert "img" not in page.tags
    assert all(link.startswith(("#", "data:")) for link in page.loads)
    assert not re.search(r"url\(|@import", text)
    assert len(text) < 5_000_000
    anchors = {link[1:] for link in page.loads if link.startswith("#")}
    assert anchors <= set(re.findall(r'id="([a-z]+)"', text))
    assert not re.search(
        r"\b(nan|None|Undefined)\b", re.sub(r"<style>.*?</style>", "", text, flags=re.S)
    )
    return text


def full_report(ward, predictions, name="sharp"):
    sequences = ward[0]
    groups = pl.DataFrame(
        {
            "stay_id": sequences.stay_id,
            "sex": ["F", "M"] * (len(sequences) // 2) + ["F"] * (len(sequences) % 2),
        }
    )
    models = {name if model == "sharp" else model: p for model, p in predictions.items()}
    evidence = evaluate(
        sequences,
        models,
        CONFIG,
        seed=1,
        task=TaskConfig(name="daily"),
        thresholds=dict.fromkeys(models, 0.3),
        subgroups=groups,
    )
    return ReportData(
        title=name,
        evidence=evidence,
        question=describe_task(TaskConfig(name="daily")),
        description=name,
        cohort=CohortReport(
            source=name,
            licence="CC BY 4.0",
            counts={"subjects": 150, "stays": 187},
            attrition=(("in the raw tables", 200), (name, 187)),
            quarantined=(("events", name, 1234),),
            parts=pl.DataFrame(
                {
                    "part": ["training", "test"],
                    "subjects": [3, 0],
                    "stays": [4, 0],
                    "rows": [1000, 0],
                    "events": [25, 0],
                }
            ),
            missing={"heart_rate": 0.1, name: 0.93},
            prevalence=pl.DataFrame(
                {
                    "by": ["care_unit", "care_unit", name],
                    "group": ["MICU", None, name],
                    "stays": [1500, 0, 10],
                    "septic": [300, 0, 0],
                    "share": [0.2, None, 0.0],
                }
            ),
            counted={"cultures_by_date_only": 4567, name: 1},
            parameters={"sofa_rise": 2, name: name},
        ),
        protocol=describe_protocol(CONFIG),
        sections=(Section("memory", "Memory", memory_section(study(), list(models))),),
        excluded_models={name: "the earlier responses are all 0"},
        models=tuple(model_report(model) for model in models),
        record={"Fingerprints": {"extract": "f" * 64, name: name}, "Seeds": {"experiment": 1}},
        config_yaml=f"name: {name}\nseed: 1\n",
        created_at="2026-01-01 12:00",
    )


def model_report(name):
    return ModelReport(
        name=name,
        family="recurrent",
        input_description=name,
        params={"hidden": 128, name: 0.001234567},
        trials=pl.DataFrame(
            {
                "number": [0, 1, 2],
                "state": ["complete", "complete", "failed"],
                "value": [0.1, 0.2, None],
            }
        ),
        tables={
            "training_curve": pl.DataFrame({"epoch": [1, 2, 3], "score": [0.1, 0.2, 0.21]}),
            "coefficients": pl.DataFrame({"term": [name, "age"], "estimate": [0.5, -0.25]}),
            "effects": pl.DataFrame(
                {
                    "term": ["intercept", name, "aliased"],
                    "estimate": [-3.0, 0.5, None],
                    "std_error": [0.1, 0.1, None],
                    "low": [-3.2, 0.304, None],
                    "high": [-2.8, 0.696, None],
                }
            ),
        },
        seconds=75.0,
        importance=pl.DataFrame({"parameter": ["hidden", name], "importance": [0.75, 0.25]}),
    )


def test_a_full_report_tells_everything(ward, predictions):
    report = full_report(ward, predictions)
    text = checked(render(report))
    for sentence in (
        report.evidence.headline,
        *report.evidence.pairs.filter(metric="auroc", subset="all")["summary"],
    ):
        assert sentence.replace("<", "&lt;") in text
    for words in (
        "will the patient be septic",
        "in the raw tables",
        "1,234",
        "New onsets",
        "<th>F</th>",
        "f" * 64,
    ):
        assert words in text
    for words in (
        "Tuning history",
        "Training curve",
        "Coefficients",
        "1 min 15 s",
        "2 complete, 1 failed",
    ):
        assert words in text
    for words in (
        "Hold-out: 20% of the subjects",
        "4,567",
        "20.0%",
        "Decision curves",
        "Median lead time",
        "Per stay",
    ):
        assert words in text
    for words in (
        "[+0.304, +0.696]",
        "Importance of the tuned",
        "is left out: the earlier",
        "What memory is for",
    ):
        assert words in text


def test_every_figure_of_the_leaderboard_is_on_the_page(ward, predictions):
    report = full_report(ward, predictions)
    text = render(report)
    for row in report.evidence.leaderboard.filter(subset="all").iter_rows(named=True):
        assert any(f"<td>{row['value']:.{decimals}f}" in text for decimals in (3, 4)), row


def test_a_minimal_report_leaves_out_what_there_is_not(ward, predictions):
    evidence = evaluate(
        ward[0], {"only": predictions["sharp"]}, EvaluationConfig(name="bare", resamples=0), seed=1
    )
    text = checked(render(ReportData(title="bare", evidence=evidence)))
    for section in ("cohort", "differences", "subgroups", "models", "record"):
        assert f'id="{section}"' not in text


def test_nothing_estimable_is_said(ward, predictions):
    sequences = dataclasses.replace(ward[0], y=np.zeros_like(ward[0].y))
    text = checked(
        render(ReportData(title="none", evidence=evaluate(sequences, predictions, CONFIG, seed=1)))
    )
    assert "not estimable" in text
    assert "0 rows with the event" in text
    empty = dataclasses.replace(ward[0], scored=np.zeros_like(ward[0].scored))
    nothing = evaluate(empty, predictions, CONFIG, seed=1)
    checked(render(ReportData(title="none", evidence=nothing)))
    assert not any(board.forests for board in boards(nothing))


def test_names_never_become_markup(ward, predictions):
    text = checked(render(full_report(ward, predictions, name=NASTY)))
    assert "onerror=alert(1)&gt;" in text
    assert "<img" not in text


@pytest.mark.parametrize(
    ("trials", "tables"),
    [
        (pl.DataFrame({"number": [0], "state": ["complete"], "value": [0.1]}), {}),
        (
            pl.DataFrame(
                {"number": [0, 1], "state": ["failed", "failed"], "value": [None, None]},
                schema_overrides={"value": pl.Float64},
            ),
            {},
        ),
        (pl.DataFrame(), {"training_curve": pl.DataFrame({"epoch": [1], "score": [0.1]})}),
        (
            pl.DataFrame(),
            {"coefficients": pl.DataFrame(schema={"term": pl.String, "estimate": pl.Float64})},
        ),
        (
            pl.DataFrame(),
            {"notes": pl.DataFrame({"a": ["x"], "b": ["y"]}), "one": pl.DataFrame({"a": [1.0]})},
        ),
        (
            pl.DataFrame({"number": [0, 1], "state": ["complete"] * 2, "value": [0.1, 0.1]}),
            {"zero": pl.DataFrame({"t": ["a"], "v": [0.0]})},
        ),
    ],
)
def test_thin_model_reports_are_drawn_or_left_out(ward, predictions, trials, tables):
    evidence = evaluate(
        ward[0], {"m": predictions["sharp"]}, EvaluationConfig(name="bare", resamples=0), seed=1
    )
    report = ReportData(
        title="thin", evidence=evidence, models=(ModelReport("m", trials=trials, tables=tables),)
    )
    checked(render(report))


def test_the_same_report_is_the_same_page(ward, predictions):
    assert render(full_report(ward, predictions)) == render(full_report(ward, predictions))


def test_more_models_than_colours(ward, predictions):
    many = {f"model_{i}": np.clip(predictions["sharp"] + i / 100, 0, 1) for i in range(10)}
    checked(render(ReportData(title="many", evidence=evaluate(ward[0], many, CONFIG, seed=1))))


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (
            {"step_hours": 1, "horizon": 6},
            "Once every hour of a stay: will the patient be septic at some time in the next 6 hours?",
        ),
        (
            {"response": "onset"},
            "become septic for the first time at some time in the next 24 hours?",
        ),
        (
            {"horizon": 0, "cutoff_hours": 8},
            "8 h into it: will the patient be septic at some time in the remaining 16 hours?",
        ),
    ],
)
def test_the_task_in_a_sentence(task, words):
    assert words in describe_task(TaskConfig(name="t", **task))


@pytest.mark.parametrize(
    ("evaluation", "words"),
    [
        (
            {"protocol": "temporal", "test": 0.3},
            "the 30% of the subjects who came last are kept apart. Of the others,",
        ),
        (
            {"protocol": "cross_validation", "repeats": 3},
            "dealt into 5 folds, 3 times anew, and every subject",
        ),
        (
            {"protocol": "site"},
            "each site in turn is predicted by models that never saw it. Within each fold",
        ),
        (
            {"protocol": "site", "sites": ("A", "B")},
            "the subjects of A, B are kept apart. Of the others,",
        ),
    ],
)
def test_the_protocol_in_words(evaluation, words):
    assert words in describe_protocol(EvaluationConfig(name="e", **evaluation))


def test_too_few_trials_for_importance_are_said(ward, predictions):
    evidence = evaluate(
        ward[0], {"m": predictions["sharp"]}, EvaluationConfig(name="bare", resamples=0), seed=1
    )
    told = ModelReport(
        "m", importance_unavailable="3 complete trials; at least 6 are needed for 1 parameter"
    )
    assert "not told, 3 complete trials" in checked(
        render(ReportData("few", evidence, models=(told,)))
    )


def test_lead_times_are_drawn_although_no_onset_had_an_alarm():
    table = pl.DataFrame(
        {"repeat": [0], "model": ["a"], "hours": [None], "episodes": [3]},
        schema_overrides={"hours": pl.Float64},
    )
    assert "<svg" in charts.lead_times(table, ["a"])
