"""What the models read: the same models with some of their inputs."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowsheet.cohort.extract import Extract
from flowsheet.compose import compose, load
from flowsheet.config import (
    AblationConfig,
    CohortConfig,
    EvaluationConfig,
    ModelConfig,
    TuningConfig,
)
from flowsheet.errors import CheckFailed, UsageError
from flowsheet.lifecycle.experiment import prepare, record
from flowsheet.lifecycle.experiment.ablation import plan as ablation_plan
from flowsheet.lifecycle.experiment.ablation.plan import choose_models, plan_ablation
from flowsheet.lifecycle.experiment.ablation.report import (
    AblationTable,
    make_section,
    make_terminal_table,
)
from flowsheet.lifecycle.experiment.ablation.results import evaluate_ablation
from flowsheet.lifecycle.experiment.check import check_config
from flowsheet.lifecycle.experiment.evaluate import evaluate_models, load_evidence
from flowsheet.lifecycle.experiment.folds import AblationResults, ExperimentResults, plan_folds
from flowsheet.lifecycle.experiment.train import load_params, train_model
from flowsheet.tracking.store import connect
from flowsheet.windows.protocol import FoldId
from tests.tiny import experiment

STANDARD = AblationConfig(**load("ablation", "standard"))
HISTORY = ModelConfig(kind="logistic_regression", history=True, space={})


def configure(**changes):
    return experiment(
        "read",
        cohort=CohortConfig(name="ward", source="simulated", options={"stays": 150}),
        tuning=TuningConfig(name="none", trials=1),
        models={"logistic_regression": HISTORY, "clock": ModelConfig(kind="clock")},
        evaluation=EvaluationConfig(name="holdout", test=0.3, resamples=20),
        ablation=STANDARD,
        **changes,
    )


def train(plan):
    return {
        fold.name: {
            name: train_model(fold.config, name, fold.data, lambda _: None, print)
            for name in fold.config.models
        }
        for fold in plan.folds
    }


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("ablation")


@pytest.fixture(scope="module")
def finished(home):
    """The whole models and the ablated ones of a small ward."""
    config = configure()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOWSHEET_HOME", str(home))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        extract = prepare.ingest_cohort(config.cohort, print)
        windows = prepare.build_windows(extract, config.task, config.features)
        split = prepare.split_subjects(extract, windows, config.evaluation, config.seed)
        plan = plan_folds(config, extract, windows, split)
        trained = train(plan)
        ablation = plan_ablation(plan, trained)
        ablated = train(ablation.plan)
        evidence = evaluate_ablation(plan, ablation, trained, ablated)
    results = AblationResults(plan=ablation, trained=ablated, evidence=evidence)
    return config, plan, trained, results


@pytest.fixture
def in_home(home, monkeypatch):
    monkeypatch.setenv("FLOWSHEET_HOME", str(home))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_only_the_inputs_differ(finished, in_home):
    _, plan, trained, results = finished
    whole = load_params(trained[plan.first_fold.name]["logistic_regression"])
    for model in results.plan.models:
        params = load_params(results.trained[plan.first_fold.name][model.name])
        inputs = STANDARD.inputs[model.inputs]
        assert params == {**whole, "roles": list(inputs.roles), "history": inputs.history}
    assert [model.inputs for model in results.plan.models] == list(STANDARD.inputs)


def test_the_clock_alone_knows_nothing_of_the_patient(finished, in_home):
    """Its AUROC within a step is that of chance; so is no other's."""
    evidence = load_evidence(finished[3].evidence)
    within = evidence.leaderboard.filter(metric="auroc_within_step", subset="all")
    by_model = dict(zip(within["model"], within["value"], strict=True))
    assert by_model.pop("logistic_regression_clock_only") == pytest.approx(0.5)
    assert len(by_model) == 4
    assert all(value != pytest.approx(0.5) for value in by_model.values())


def test_the_table_begins_with_all_inputs_and_has_differences_from_them(finished, in_home):
    table = AblationTable.load(finished[3])
    first, *others = table.list_lines()
    assert (first.name, first.inputs) == ("logistic_regression", "all inputs")
    assert table.find_difference(first) is None
    subset, metric = table.evidence.ranking_subset, table.ranking_metric.name
    whole = table.find_estimate(first.name, metric, subset)["value"]
    for line in others:
        difference = table.find_difference(line)
        value = table.find_estimate(line.name, metric, subset)["value"]
        assert difference["value"] == pytest.approx(value - whole)
        assert difference["low"] < difference["value"] < difference["high"]
    printed = make_terminal_table(finished[3])
    assert [row[:2] for row in printed.rows][1] == ["Logistic regression", "physiology only"]
    assert {len(row) for row in printed.rows} == {len(printed.columns)}
    section = make_section(finished[3], ["clock", "logistic_regression"])
    assert "without anti-infectives" in section.html


@pytest.mark.slow
def test_ablated_models_are_recorded_and_not_registered(finished, in_home, monkeypatch):
    config, plan, trained, ablation = finished
    read = []

    def record_reading(extract, stays=None, read_tables=Extract.tables):
        read.append(stays)
        return read_tables(extract, stays)

    monkeypatch.setattr(Extract, "tables", record_reading)
    with record.track_experiment(config, plan, {}) as parent:
        evidence = evaluate_models(config, plan, trained)
        results = ExperimentResults(
            config=config,
            plan=plan,
            trained=trained,
            excluded_models={},
            evidence=evidence,
            ablation=ablation,
        )
        summary = record.record_results(results, parent, print)
    assert summary.leaderboards[-1].title.startswith("What the models read")
    assert set(summary.metrics) == {"logistic_regression", "clock"}
    client = connect()
    runs = client.search_runs([parent.experiment_id], "tags.`flowsheet.level` = 'model'")
    recorded = {run.data.tags["flowsheet.model"]: run for run in runs}
    assert set(recorded) == {*config.models, *(model.name for model in ablation.plan.models)}
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert "test.auroc" in recorded["logistic_regression_clock_only"].data.metrics
    names = {version.name for version in client.search_model_versions()}
    assert names == {"read-logistic_regression", "read-clock"}
    page = Path(summary.report).read_text(encoding="utf-8")
    assert page.index('id="ablation"') < page.index('id="models"')
    assert [len(stays) for stays in read] == [3]  # never the whole extract
    assert "Missed by Logistic regression" in page or "Found early by Logistic regression" in page


def test_inputs_that_leave_nothing_or_everything_are_not_trained(finished, in_home):
    _, plan, trained, _ = finished
    roles = {"mixed_only": {"roles": "mixed"}, "everything": {"roles": "all", "history": True}}
    ablation = AblationConfig(name="odd", inputs=roles)
    fold = plan.first_fold
    changed = fold.model_copy(
        update={"config": fold.config.model_copy(update={"ablation": ablation})}
    )
    planned = plan_ablation(plan.model_copy(update={"folds": (changed,)}), trained)
    assert planned.plan is None
    reasons = [model.reason_left_out for model in planned.models]
    assert reasons == ["the model is given no such columns", "these are all the inputs"]


def test_inputs_that_the_model_of_one_fold_does_not_take_are_trained_in_none(
    finished, in_home, monkeypatch
):
    """The tuning may choose other roles in each fold (``space.roles``)."""
    _, plan, trained, _ = finished
    clock = AblationConfig(name="clock", inputs={"clock_only": {"roles": "clock"}})
    first = plan.first_fold
    config = first.config.model_copy(update={"ablation": clock})
    folds = [
        first.model_copy(update={"id": FoldId(name, 0, i), "config": config})
        for i, name in enumerate(("1", "2"))
    ]
    stages = {fold.name: trained[first.name] for fold in folds}
    whole = load_params(trained[first.name]["logistic_regression"])
    chosen = iter([whole, {**whole, "roles": ["physiology", "drug"]}])
    monkeypatch.setattr(ablation_plan, "load_params", lambda stage: next(chosen))
    planned = plan_ablation(plan.model_copy(update={"folds": tuple(folds)}), stages)
    assert planned.plan is None
    assert [model.reason_left_out for model in planned.models] == [
        "the model is given no such columns"
    ]


def test_models_that_do_not_apply_are_named_in_an_error(finished, in_home):
    _, plan, trained, _ = finished
    name = plan.first_fold.name
    without = {name: {"clock": trained[name]["clock"]}}
    with pytest.raises(CheckFailed, match="none of the models that are to be ablated"):
        plan_ablation(plan, without)


def test_without_trees_and_logistic_regression_the_best_model_is_ablated(finished, in_home):
    config, plan, trained, _ = finished
    stage = trained[plan.first_fold.name]["logistic_regression"]
    models = {"mlp": ModelConfig(kind="mlp"), "svm": ModelConfig(kind="svm")}
    others = config.model_copy(update={"models": models})
    assert choose_models(others, {"svm": stage, "mlp": stage}) == ("mlp",)


def test_an_experiment_of_the_floor_alone_cannot_be_ablated():
    with pytest.raises(UsageError, match="none of the models has inputs"):
        check_config(compose("demo", ["models=[clock,sofa,ar1]", "ablation=standard"]))


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("ablation.models=[gru]", "does not run"),
        ("ablation.models=[clock]", "does not take columns"),
        ("ablation.inputs.odd.roles=physio", "ablation.inputs.odd.roles"),
        ("ablation=full", "there is no ablation called 'full'"),
    ],
)
def test_wrong_choices_are_refused(typed, message):
    choices = ["ablation=standard", "models=[logistic_regression]", "floor=true", typed]
    with pytest.raises(UsageError) as caught:
        check_config(compose("demo", choices))
    assert message in str(caught.value)


def test_two_ablated_models_of_one_name_are_refused():
    """``trees`` with ``small_only`` and ``trees_small`` with ``only`` would be one."""
    config = configure()
    model = ModelConfig(kind="logistic_regression")
    inputs = {"small_only": {"roles": "clock"}, "only": {"roles": "physiology"}}
    same = config.model_copy(
        update={
            "models": {"trees": model, "trees_small": model},
            "ablation": AblationConfig(name="odd", inputs=inputs),
        }
    )
    with pytest.raises(UsageError, match="has a model trees_small_only already"):
        check_config(same)


def test_a_value_of_no_choice_is_refused():
    with pytest.raises(UsageError, match=r"ablation.models changes no choice") as caught:
        compose("demo", ["ablation.models=[gru]"])
    assert "ablation=NAME" in str(caught.value)


def test_without_the_choice_nothing_is_ablated():
    assert compose("demo").ablation is None
    assert compose("demo", ["ablation=standard", "ablation=null"]).ablation is None
    assert compose("demo", ["ablation=standard"]).ablation == STANDARD
