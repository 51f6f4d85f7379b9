"""A report with every section, and a check of its HTML."""

import base64
import hashlib
import html as html_module
import re
from html.parser import HTMLParser

import polars as pl

from flowsheet.config import EvaluationConfig, TaskConfig
from flowsheet.evaluation.alert_policy import make_policies
from flowsheet.evaluation.evidence import evaluate
from flowsheet.evaluation.report import CohortReport, ModelReport, ReportData, Section
from flowsheet.evaluation.report.data import describe_protocol, describe_task
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
from flowsheet.lifecycle.memory_study.report import render_memory_section
from tests.lifecycle.memory_study.helpers import make_memory_report

CONFIG = EvaluationConfig(name="small", resamples=100)
WITHOUT_RESAMPLES = EvaluationConfig(name="fast", resamples=0)
VOID_TAGS = {"meta", "link", "br", "img", "hr", "input", "wbr"}
LINK_ATTRIBUTES = {"src", "href", "xlink:href", "data", "srcset"}


class PageParser(HTMLParser):
    """Collects tags, links, and the tags that are not closed."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.links = [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in LINK_ATTRIBUTES]
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag not in VOID_TAGS:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def check_html(html):
    """The page, if it is well-formed, loads nothing and shows no missing value."""
    whole_page, page = html, PageParser(html)
    assert page.open == []
    assert "img" not in page.tags
    assert all(link.startswith(("#", "data:")) for link in page.links)
    assert len(html) < 5_000_000
    check_scripts(html)
    html = re.sub(r"<script.*?</script>", "", html, flags=re.S)
    assert not re.search(r"url\(|@import", html)
    anchors = {link[1:] for link in page.links if link.startswith("#")}
    assert anchors <= set(re.findall(r'id="([a-z-]+)"', html))
    text = re.sub(r"<style>.*?</style>", "", html, flags=re.S)
    assert not re.search(r"\b(nan|None|Undefined)\b", text)
    return whole_page


def check_scripts(html):
    """Every script is data, or is allowed by its digest; nothing else is."""
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)[1]
    allowed = re.search(r"script-src ([^;]*)", html_module.unescape(policy))[1].split()
    scripts = re.findall(r"<script>(.*?)</script>", html, flags=re.S)
    digests = [hashlib.sha256(script.encode()).digest() for script in scripts]
    assert allowed == [f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests]
    assert set(re.findall(r"<script([^>]*)>", html)) <= {
        "",
        ' type="application/json" class="chart-data"',
    }


def make_report(sequences, predictions, name="accurate", response="sepsis", config=CONFIG):
    """A report with every section; ``name`` is used wherever a name is free text."""
    task = TaskConfig(name="daily", response=response)
    models = {name if model == "accurate" else model: p for model, p in predictions.items()}
    sex = [("F", "M")[s % 2] for s in range(len(sequences))]
    evidence = evaluate(
        sequences,
        models,
        config,
        seed=1,
        task=task,
        policies=make_policies(dict.fromkeys(models, 0.3)),
        subgroups=pl.DataFrame({"stay_id": sequences.stay_id, "sex": sex}),
    )
    return ReportData(
        title=name,
        evidence=evidence,
        question=describe_task(task),
        task=task,
        description=name,
        cohort=make_cohort_report(name),
        study=make_study(name),
        protocol=describe_protocol(CONFIG),
        sections=(
            Section("memory", "Memory", render_memory_section(make_memory_report(), list(models))),
        ),
        excluded_models={name: "the earlier responses are all 0"},
        models=tuple(make_model_report(model) for model in models),
        record={"Fingerprints": {"extract": "f" * 64, name: name}, "Seeds": {"experiment": 1}},
        config_yaml=f"name: {name}\nseed: 1\n",
        created_at="2026-01-01 12:00",
    )


def make_study(name):
    return StudyFacts(
        outcome=Outcome(
            title=name,
            sentences=(name, "It ends with 48 h without antimicrobials."),
            changed_options=(("criterion", "rise", name),),
        ),
        overlap=(Overlap(part="SOFA: renal", inputs=("creatinine", name)),),
        history_models=(name,),
        flow=(FlowStep(step=name, stays=200), FlowStep(step="with a prediction", stays=83)),
        rows=5678,
        left_out=(LeftOut(reason=name, rows=321, stays=4),),
        characteristics=Characteristics(
            columns=("All", name), rows=(Characteristic(label=name, cells=("12 (9.1%)", "<5")),)
        ),
        missing_data=(name, "The last known value is carried forward for 48 h."),
        sample_size=SampleSize(columns=100, events=900, new_onsets=13),
        agreement=({"definition": name, "kappa": "0.81"},),
    )


def make_cohort_report(name):
    return CohortReport(
        source=name,
        licence="CC BY 4.0",
        warnings=(f"no row of {name}",),
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
        missing_shares={"heart_rate": 0.1, name: 0.93},
        prevalence=pl.DataFrame(
            {
                "by": ["care_unit", "care_unit", name],
                "group": ["MICU", None, name],
                "stays": [1500, 0, 10],
                "with_episode": [300, 0, 0],
                "share": [0.2, None, 0.0],
            }
        ),
        processing_counts={"cultures_by_date_only": 4567, name: 1},
        parameters={"sofa_rise": 2, name: name},
    )


def make_model_report(name):
    trials = {
        "number": [0, 1, 2, 3],
        "state": ["complete", "complete", "complete", "failed"],
        "value": [0.1, 0.2, 0.3, None],
    }
    effects = {
        "term": ["intercept", name, "aliased"],
        "estimate": [-3.0, 0.5, None],
        "std_error": [0.1, 0.1, None],
        "low": [-3.2, 0.304, None],
        "high": [-2.8, 0.696, None],
    }
    return ModelReport(
        name=name,
        family="recurrent",
        input_description=name,
        params={"hidden": 128, name: 0.001234567},
        trials=pl.DataFrame(trials),
        tables={
            "training_curve": pl.DataFrame({"epoch": [1, 2, 3], "score": [0.1, 0.2, 0.21]}),
            "coefficients": pl.DataFrame({"term": [name, "age"], "estimate": [0.5, -0.25]}),
            "effects": pl.DataFrame(effects),
        },
        seconds=75.0,
        importance=pl.DataFrame({"parameter": ["hidden", name], "importance": [0.75, 0.25]}),
    )
