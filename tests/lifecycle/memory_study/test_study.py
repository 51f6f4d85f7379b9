"""The memory study on a small ward, from training to its report, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import polars as pl
import pytest

from flowsheet.compose import compose
from flowsheet.config import ExperimentConfig
from flowsheet.errors import UsageError
from flowsheet.lifecycle.experiment import prepare, train
from flowsheet.lifecycle.experiment.folds import ExperimentPlan, combine_replicates, plan_folds
from flowsheet.lifecycle.experiment.stage import Stage
from flowsheet.lifecycle.memory_study import study
from flowsheet.lifecycle.memory_study.oracle_bound import ORACLE
from flowsheet.lifecycle.memory_study.report import render_memory_section
from flowsheet.lifecycle.memory_study.report_data import MemoryReport

MODELS = ("lstm", "rnn", "logistic_regression", "arx", "ar1")
N_DRUGS, N_LAGS, N_REPLICATES = 8, 9, 2
SMALL = [
    "cohort.options.stays=60",
    "cohort.options.min_steps=8",
    "cohort.options.max_steps=14",
    f"memory.lags={N_LAGS - 1}",
    "memory.gradient_lag=5",
    "memory.max_stays=10",
    "tuning.trials=1",
    "evaluation.resamples=20",
]


def compose_small(models: tuple[str, ...], *overrides: str) -> ExperimentConfig:
    epochs = [f"models.{name}.params.epochs=1" for name in ("lstm", "rnn") if name in models]
    return compose("memory_study", [f"models=[{','.join(models)}]", *SMALL, *epochs, *overrides])


def train_models(config: ExperimentConfig) -> tuple[ExperimentPlan, dict[str, dict[str, Stage]]]:
    """The experiment up to its trained models, as the flow runs it."""
    plans = []
    for replicate in study.list_replicates(config):
        extract = prepare.ingest_cohort(replicate.cohort, lambda line: None)
        windows = prepare.build_windows(extract, replicate.task, replicate.features)
        split = prepare.split_subjects(extract, windows, replicate.evaluation, replicate.seed)
        plans.append(plan_folds(replicate, extract, windows, split))
    plan = combine_replicates(plans) if len(plans) > 1 else plans[0]
    trained = {
        fold.name: {
            name: train.train_model(
                fold.config, name, fold.data, lambda trial: None, lambda line: None
            )
            for name in config.models
        }
        for fold in plan.folds
    }
    return plan, trained


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOWSHEET_HOME", str(tmp_path_factory.mktemp("study")))
        config = compose_small(MODELS, f"memory.replicates={N_REPLICATES}")
        stage = study.run_memory_study(config, *train_models(config))
        assert study.run_memory_study(config, *train_models(config)).reused
        return stage


@pytest.fixture(scope="module")
def report(stage: Stage) -> MemoryReport:
    return study.load_memory_report(stage)


def test_every_model_is_evaluated_in_every_replicate(report):
    assert set(report.models) == set(MODELS)
    assert report.scores["model"][0] == ORACLE
    n_lags = report.responses.group_by("model", "drug", "replicate").len()
    assert n_lags.height == len(MODELS) * N_DRUGS * N_REPLICATES
    assert (n_lags["len"] == N_LAGS).all()
    assert report.about["seeds"] == [11, 12]


def test_recurrent_models_have_gradients(report):
    assert report.gradients.group_by("model", "replicate").len().height == 2 * N_REPLICATES
    assert (report.gradients.filter(lag=0)["relative"] == 1).all()


def test_models_without_a_memory_respond_at_lag_0_only(report):
    assert set(report.memoryless_models) == {"arx", "logistic_regression", "ar1"}
    assert (report.responses.filter(lag=0, model="arx")["response"] != 0).all()


def test_true_effects_are_those_of_one_reference_dose(report):
    peak = report.effects.group_by("drug").agg(pl.col("effect").abs().max())
    largest = dict(peak.iter_rows())
    assert largest["propofol"] == pytest.approx(2.5)
    assert largest["insulin"] == largest["furosemide"] == 0


def test_the_example_stay_has_gates_at_every_step(report):
    stay = report.example_stay
    assert stay is not None
    steps = stay.predictions["step"].to_list()
    assert stay.gates.filter(gate="forget")["step"].to_list() == steps
    is_share = pl.col("mean", "low", "high").is_between(0, 1).all()
    assert stay.gates.select(is_share).row(0) == (True, True, True)
    assert set(stay.doses["step"]) <= set(steps)


def test_figures_are_self_contained_files(stage):
    files = sorted(Path(stage.folder).glob("*.svg"))
    names = {file.stem for file in files}
    assert {"effect_matrix", "gradients", "oracle_bound", "example_stay"} <= names
    assert "effect_hydrocortisone" in names
    for file in files:
        root = ElementTree.fromstring(file.read_text(encoding="utf-8"))
        assert root.tag.endswith("svg")
        assert any(node.text for node in root.iter() if node.tag.endswith("text"))


@pytest.mark.parametrize(
    "text",
    [
        "By construction",
        "5 steps back",
        "Share of the oracle bound",
        "in 2 replicates",
        "hydrocortisone",
    ],
)
def test_the_section_shows_the_findings(report, text):
    html = str(render_memory_section(report, ["ar1", "lstm"]))
    assert text in html
    assert html.count("<script") == html.count('<script type="application/json"')
    assert html.count("<svg") == html.count("</svg>")


def test_replicates_differ_in_their_seeds_only():
    config = compose("memory_study")
    replicates = study.list_replicates(config)
    assert [replicate.seed for replicate in replicates] == [11, 12, 13]
    assert [replicate.cohort.options["seed"] for replicate in replicates] == [11, 12, 13]
    same = {"seed": 0, "cohort": config.cohort, "memory": config.memory}
    digests = {replicate.model_copy(update=same).digest() for replicate in replicates}
    assert digests == {config.model_copy(update={"seed": 0}).digest()}


def test_all_models_have_the_same_number_of_trials():
    config = compose("memory_study")
    assert {model.trials for model in config.models.values()} == {None}


def test_recurrent_models_have_equal_parameters_and_search_spaces():
    config = compose("memory_study")
    recurrent = [config.models[name] for name in ("lstm", "gru", "rnn")]
    assert len({(str(m.params), str(m.space), m.history) for m in recurrent}) == 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["features=standard"], "the dose must be a drug's only feature"),
        (["features.treatments=none"], "the dose must be a drug's only feature"),
        (["task=next_day_onset"], "predicts the state in the ward's next step"),
        (["task.horizon=2"], "predicts the state in the ward's next step"),
        (["cohort=extract"], "the source is extract"),
        (["memory.baseline=ar11"], "the baseline 'ar11' is not among the models"),
        (["memory.lags=20"], "gradients 30 steps back"),
        (["memory.lags=80"], "effects over 80 steps cannot be followed"),
    ],
)
def test_an_experiment_that_does_not_suit_the_study_is_refused(overrides, message):
    with pytest.raises(UsageError) as error:
        study.list_replicates(compose("memory_study", overrides))
    assert message in error.value.what
    assert error.value.todo


def test_an_experiment_without_a_memory_study_is_refused():
    with pytest.raises(UsageError, match="has no memory study"):
        study.list_replicates(compose("demo"))


def test_an_example_stay_that_is_not_held_out_is_refused():
    config = compose_small(("lstm", "ar1"), "memory.replicates=1", "memory.example_stay=99999")
    with pytest.raises(UsageError, match="99999 is not among the held-out"):
        study.run_memory_study(config, *train_models(config))


def test_without_recurrent_models_there_are_no_gradients_and_no_gates():
    config = compose_small(("logistic_regression", "ar1"), "memory.replicates=1")
    stage = study.run_memory_study(config, *train_models(config))
    report = study.load_memory_report(stage)
    assert report.example_stay is None
    assert report.gradients.is_empty()
    html = str(render_memory_section(report))
    assert "steps back" not in html
    assert "of the difference in log loss between AR(1) and the oracle" in html
