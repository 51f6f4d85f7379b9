"""Explanations add up, say what was recorded, and know nothing of what was recorded later."""

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from flowsheet.cohort.schema import TABLES, Tables, empty_table
from flowsheet.cohort.time_grid import HOUR, microseconds
from flowsheet.config import FeaturesConfig, MovingAverage, PastConfig, PastWindow
from flowsheet.errors import UsageError
from flowsheet.prediction.explanations import (
    EXPLANATIONS,
    Concept,
    compute_importance,
    explain_rise,
)
from flowsheet.prediction.explanations.facts import RecordedFacts
from flowsheet.prediction.explanations.words import Moment, describe_fact
from tests.model_packages import contract_table, fit_model_package

KINDS = {
    "logistic_regression": {},
    "gradient_boosting": {"rounds": 20},
    "lstm": {"epochs": 2, "hidden": 8, "embedding": 4},
}
START = datetime(2000, 1, 1)


@pytest.fixture(scope="module", params=KINDS)
def package(request, tables, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return fit_model_package(folder, request.param, tables, **KINDS[request.param])


@pytest.fixture(scope="module")
def explained(package, tables):
    return package.explain(tables, "all")


def test_baseline_and_contributions_are_the_log_odds_of_the_risk(package, explained, tables):
    assert dict(explained.schema) == EXPLANATIONS
    keys = ["stay_id", "time", "step"]
    sums = explained.group_by(keys).agg(
        total=pl.col("contribution").sum() + pl.col("baseline").first()
    )
    risks = package.predict(tables).join(sums, on=keys, how="left")
    assert risks["total"].null_count() == 0
    odds = np.log(risks["risk"] / (1 - risks["risk"]))
    np.testing.assert_allclose(risks["total"], odds, atol=1e-5)


def test_the_last_step_and_the_largest_contributions(package, explained, tables):
    last = package.explain(tables, top=2)
    assert last["rank"].max() == 2
    assert last.group_by("stay_id").agg(pl.col("step").n_unique())["step"].unique().to_list() == [1]
    largest = explained.join(last, on=["stay_id", "step", "concept"], how="semi")
    assert set(largest["rank"]) == {1, 2}
    size = last["contribution"].abs().to_numpy()
    assert (size[::2] >= size[1::2]).all()


def test_what_is_recorded_later_changes_no_explanation(package, explained, tables):
    cut = START + timedelta(hours=12)
    later = pl.col("known_at") > cut
    changed = replace(
        tables,
        events=tables.events.with_columns(
            pl.when(later).then(50.0).otherwise("value").alias("value")
        ),
        treatments=tables.treatments.filter(~later),
        episodes=tables.episodes.filter(~later),
    )
    steps = pl.col("step") <= 2  # of six hours each
    after = package.explain(changed, [1, 2])
    before = explained.filter(steps)
    columns = ["stay_id", "step", "concept", "value", "hours_ago"]
    shared = before.join(after, on=["stay_id", "step", "concept"], how="left")
    np.testing.assert_allclose(shared["contribution_right"], shared["contribution"], atol=1e-3)
    if package.kind == "logistic_regression":
        assert after.select(columns).equals(before.select(columns))


def test_a_rise_adds_up_to_the_change_of_the_log_odds(explained):
    stay = int(explained["stay_id"][0])
    rise = explain_rise(explained, stay, 1, 3)
    odds = explained.filter(stay_id=stay).group_by("step").agg(pl.col("log_odds").first())
    at = dict(odds.iter_rows())
    assert rise["change"].sum() == pytest.approx(at[3] - at[1], abs=1e-5)
    assert rise["change"].is_sorted(descending=True)
    assert rise["rank"].to_list() == list(range(1, rise.height + 1))
    with pytest.raises(UsageError, match="step 99 of stay"):
        explain_rise(explained, stay, 1, 99)


def test_importance_is_the_mean_absolute_contribution_of_a_fixed_sample(package, tables):
    scaled = package.build_inputs(tables).scaled
    importance = compute_importance(package.model, scaled, rows=30)
    assert importance.equals(compute_importance(package.model, scaled, rows=30))
    assert importance["rows"].unique().to_list() == [30]
    assert importance["share"].sum() == pytest.approx(1)
    assert importance["mean_absolute_contribution"].is_sorted(descending=True)
    assert {"hr", "temp", "norepinephrine", "age", "sex"} <= set(importance["concept"])


def test_the_facts_are_those_of_the_windows(package, tables):
    inputs = package.build_inputs(tables)
    raw, facts = inputs.raw, RecordedFacts(tables, tables.stays["stay_id"].to_numpy())
    column = [feature.name for feature in raw.features].index("hr_last")
    ages = [feature.name for feature in raw.features].index("hr_since")
    stay_ids = raw.stay_id[raw.row_stay]
    for row in np.flatnonzero(~np.isnan(raw.x[:, column])):
        time = int(inputs.predicted_at[row])
        latest = facts.measurement(int(stay_ids[row]), "hr", time)
        assert latest is not None
        assert np.float32(latest.value) == raw.x[row, column]
        assert (time - latest.time) / HOUR == pytest.approx(raw.x[row, ages], abs=1e-3)


def at(hours):
    return START + timedelta(hours=hours)


@pytest.fixture(scope="module")
def facts():
    """One stay: a lactate, a dose of vancomycin, an infusion of norepinephrine."""
    events = {"variable": ["lact", "lact"], "value": [4.1, 9.9]}
    times = {"time": [at(8), at(9)], "known_at": [at(9), at(11)]}
    doses = {
        "drug": ["vancomycin", "vancomycin", "norepinephrine"],
        "start": [at(1), at(7), at(9)],
        "end": [at(1), at(7), at(20)],
        "known_at": [at(1), at(7), at(9)],
        "dose": [500.0, 1000.0, 4.0],
        "unit": ["mg", "mg", "mcg/kg"],
    }
    stays = {"subject_id": [1], "admitted_at": [START], "discharged_at": [at(30)], "age": [67.0]}
    tables = Tables(
        contract_table("stays", {"stay_id": [1], "sex": ["F"], **stays}),
        contract_table("events", {"stay_id": [1, 1], **times, **events}),
        contract_table("treatments", {"stay_id": [1, 1, 1], **doses}),
        empty_table("episodes"),
    )
    assert set(TABLES) == {"stays", "events", "treatments", "episodes"}
    return RecordedFacts(tables, np.array([1]))


VANCOMYCIN = "vancomycin 1000 mg, three hours ago, after one earlier dose"
NOREPINEPHRINE = "norepinephrine 4 mcg/kg per hour, running for one hour"


@pytest.mark.parametrize(
    ("concept", "text"),
    [
        (Concept("lact", "variable"), "lactate 4.1, two hours old"),
        (Concept("crea", "variable"), "creatinine not measured"),
        (
            Concept("vancomycin", "drug"),
            "vancomycin 1000 mg, three hours ago, after one earlier dose",
        ),
        (
            Concept("norepinephrine", "drug"),
            "norepinephrine 4 mcg/kg per hour, running for one hour",
        ),
        (Concept("propofol", "drug"), "propofol not given"),
        (Concept("age", "static"), "age 67"),
        (Concept("sex", "static"), "sex F"),
        (Concept("unit", "static"), "care unit not recorded"),
        (Concept("hours", "time"), "ten hours since admission"),
        (Concept("response history", "history"), "response known in two of the last three steps"),
    ],
)
def test_what_was_recorded_is_said_in_words(facts, concept, text):
    time = int(microseconds(pl.Series([at(10)]))[0])
    history = np.array([1, 1, np.nan], np.float32)
    moment = Moment(stay_id=1, time=time, row_time=time, history=history)
    assert describe_fact(concept, facts, moment).text == text


def test_the_past_and_derived_numbers_are_said_in_words(tables, tmp_path):
    past = PastConfig(
        windows=(PastWindow(hours=24, statistics=("max",)),),
        averages=(MovingAverage(half_life_hours=6),),
        derived="all",
    )
    features = FeaturesConfig(name="f", past=past)
    package = fit_model_package(tmp_path, "logistic_regression", tables, features=features)
    explained = package.explain(tables)
    course = explained.filter(concept="hr", kind="course")
    assert course["label"].unique().to_list() == ["course of heart rate"]
    names = "highest heart rate of the last 24 h|mean heart rate with a half-life of 6 h"
    assert course["text"].str.contains(rf"^({names}) (not known|[\d.]+): [+-]").all()
    derived = explained.filter(kind="derived")["text"]
    assert derived.str.starts_with("vasopressors as norepinephrine in mcg/kg/min ").all()
    assert len(derived)


def test_a_value_that_is_no_longer_carried_forward_is_not_called_the_current_one(facts):
    time = int(microseconds(pl.Series([at(100)]))[0])
    moment = Moment(1, time, time, np.zeros(0, np.float32), is_value_known=False)
    fact = describe_fact(Concept("lact", "variable"), facts, moment)
    assert fact.text == "lactate not measured for four days (then 9.9)"
    assert (fact.value, fact.unit) == (9.9, "mmol/L")
