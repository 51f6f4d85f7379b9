"""Missing data, sample size and bedside scores in words."""

import pytest

from flowsheet.config import FLOOR_MODELS, FeaturesConfig, ModelConfig
from flowsheet.evaluation.study.facts import Outcome, SampleSize, StudyFacts
from flowsheet.evaluation.study.predictors import describe_missing_data, find_bedside_scores


def test_the_handling_of_missing_values_follows_the_features():
    features = FeaturesConfig(
        name="f", carry_forward_hours=24, carry_forward_by_variable={"crea": 72.0}
    )
    shares = {"hr": 0.1, "crea": 0.8}
    text = " ".join(describe_missing_data(features, shares, scaled=True, raw=False))
    assert "carried forward for 24 h (crea for 72 h)" in text
    assert "centre of its column" in text
    assert "whether the value is missing and the time since" in text
    assert "Of 2 variables, 1 have no known value" in text
    assert "Tree models" not in text


@pytest.mark.parametrize(
    ("empty", "text"),
    [
        ([], ""),
        (["ecmo_on"], "1 column is unknown or 0 in every row to learn from: ecmo_on."),
        (list("abcdefghijkl"), "12 columns are unknown or 0 in every row to learn from: a, "),
    ],
)
def test_columns_without_a_value_are_named(empty, text):
    features = FeaturesConfig(name="f")
    lines = list(describe_missing_data(features, {}, scaled=True, raw=False, empty=empty))
    assert ("in every row" in lines[-1]) == bool(empty)
    assert text in lines[-1]


def test_without_indicators_none_are_mentioned():
    features = FeaturesConfig(
        name="f", carry_forward_hours=0, missing_indicators=False, hours_since_measured=False
    )
    text = " ".join(describe_missing_data(features, {}, scaled=False, raw=True))
    assert "within its own time step only" in text
    assert "Further columns" not in text
    assert "Tree models" in text


@pytest.mark.parametrize(
    ("size", "text", "is_small"),
    [
        (
            SampleSize(columns=10, events=200),
            "200 events, for 10 input columns: 20.0 events",
            False,
        ),
        (SampleSize(columns=10, events=99), "9.9 events per column. That is fewer than 10", True),
        (
            SampleSize(columns=10, events=900, new_onsets=13),
            "900 events, 13 of them new onsets, for 10 input columns: 1.3 new onsets per column",
            True,
        ),
    ],
)
def test_events_per_column_count_new_onsets_where_there_are_others(size, text, is_small):
    assert text in size.summary
    assert size.is_small == is_small


def test_bedside_scores_are_found_by_kind_or_parameter():
    models = {
        "gbm": ModelConfig(kind="gradient_boosting"),
        "qsofa": ModelConfig(kind="qsofa"),
        "early warning": ModelConfig(kind="bedside_score", params={"score": "news2"}),
    }
    assert list(find_bedside_scores(models)) == ["qSOFA", "NEWS2 (early warning)"]
    floor = {name: ModelConfig(kind=name) for name in FLOOR_MODELS}
    without_score = {"prevalence", "clock"}
    assert len(list(find_bedside_scores(floor))) == len(floor.keys() - without_score)
    assert list(find_bedside_scores({"shock_index": floor["shock_index"]})) == ["shock index"]


def test_a_study_without_bedside_scores_says_so(tmp_path):
    study = StudyFacts(outcome=Outcome(title="x"))
    assert "No score of everyday care" in study.comparison
    study.save(tmp_path)
    assert StudyFacts.load(tmp_path) == study
    assert StudyFacts.load(tmp_path / "elsewhere") is None
