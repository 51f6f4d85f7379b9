"""The memory study from a tiny ward to its report, and the experiments of which it can make no sense."""

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
from flowsheet.lifecycle.memory_study import LAW
from flowsheet.lifecycle.memory_study import study as memory
from flowsheet.lifecycle.memory_study.report import MemoryReport, memory_section

MODELS = ("lstm", "rnn", "logistic_regression", "arx", "ar1")
SMALL = [
    f"models=[{','.join(MODELS)}]",
    "cohort.options.stays=60",
    "cohort.options.min_steps=8",
    "cohort.options.max_steps=14",
    "memory.replicates=2",
    "memory.lags=8",
    "memory.gradient_lag=5",
    "memory.max_stays=10",
    "tuning.trials=1",
    "evaluation.resamples=20",
    *(f"models.{name}.params.epochs=1" for name in ("lstm", "rnn")),
]


def prepared(config: ExperimentConfig) -> tuple[ExperimentPlan, dict[str, dict[str, Stage]]]:
    """The experiment up to its trained models, as the flow goes."""
    plans = []
    for each in memory.replicates(config):
        extract = prepare.ingest_cohort(each.cohort, lambda line: None)
        made = prepare.build_windows(extract, each.task, each.features)
        split = prepare.split_subjects(extract, made, each.evaluation, each.seed)
        plans.append(plan_folds(each, extract, made, split))
    plan = combine_replicates(plans) if len(plans) > 1 else plans[0]
    return plan, {
        each.name: {
            name: train.train_model(
                each.config, name, each.data, lambda trial: None, lambda line: None
            )
            for name in config.models
        }
        for each in plan.folds
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Stage, MemoryReport]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOWSHEET_HOME", str(tmp_path_factory.mktemp("study")))
        config = compose("memory_study", SMALL)
        stage = memory.study(config, *prepared(config))
        assert memory.study(config, *prepared(config)).reused
        return stage, memory.report(stage)


def test_every_model_is_told_of_in_every_replicate(made):
    _, report = made
    assert set(report.models) == set(MODELS)
    assert report.figures["model"][0] == LAW
    told = report.responses.group_by("model", "drug", "replicate").len()
    assert told.height == len(MODELS) * 8 * 2
    assert (told["len"] == 9).all()
    assert report.gradients.group_by("model", "replicate").len().height == 2 * 2
    assert (report.gradients.filter(lag=0)["relative"] == 1).all()
    assert report.about["seeds"] == [11, 12]


def test_the_memoryless_forget_exactly_and_the_others_do_not(made):
    _, report = made
    assert set(report.forgetful) == {"arx", "logistic_regression", "ar1"}
    own = report.responses.filter(pl.col("lag") == 0, pl.col("model") == "arx")
    assert (own["response"] != 0).all()


def test_the_true_curves_are_those_of_one_reference_dose(made):
    _, report = made
    peak = report.curves.group_by("drug").agg(pl.col("effect").abs().max())
    largest = dict(peak.iter_rows())
    assert largest["propofol"] == pytest.approx(2.5)
    assert largest["insulin"] == largest["furosemide"] == 0


def test_the_stay_has_its_gates_under_its_doses(made):
    _, report = made
    assert report.stay is not None
    steps = report.stay.risk["step"].to_list()
    assert report.stay.gates.filter(gate="forget")["step"].to_list() == steps
    assert report.stay.gates.select(pl.col("mean", "low", "high").is_between(0, 1).all()).row(
        0
    ) == (True, True, True)
    assert set(report.stay.doses["step"]) <= set(steps)


def test_drawings_are_files_that_stand_alone(made):
    stage, _ = made
    files = sorted(Path(stage.folder).glob("*.svg"))
    assert {"matrix", "gradients", "ceiling", "stay", "effect_hydrocortisone"} <= {
        file.stem for file in files
    }
    for file in files:
        root = ElementTree.fromstring(file.read_text())
        assert root.tag.endswith("svg")
        assert any(
            "log odds" in (node.text or "") or node.text
            for node in root.iter()
            if node.tag.endswith("text")
        )


def test_the_section_says_what_was_found(made):
    _, report = made
    page = str(memory_section(report, ["ar1", "lstm"]))
    assert "By construction" in page or "by construction" in page
    for words in (
        "arx, ",
        "5 steps back",
        "Share of the ceiling",
        "in 2 replicates",
        "hydrocortisone",
    ):
        assert words in page, words
    assert "<script" not in page
    assert page.count("<svg") == page.count("</svg>")


def test_replicates_differ_in_their_seeds_only():
    config = compose("memory_study")
    found = memory.replicates(config)
    assert [each.seed for each in found] == [11, 12, 13]
    assert [each.cohort.options["seed"] for each in found] == [11, 12, 13]
    plain = [
        each.model_copy(
            update={"seed": 0, "cohort": config.cohort, "memory": config.memory}
        ).digest()
        for each in found
    ]
    assert set(plain) == {config.model_copy(update={"seed": 0}).digest()}


def test_all_models_have_the_same_number_of_trials():
    config = compose("memory_study")
    assert {model.trials for model in config.models.values()} == {None}
    recurrent = [config.models[name] for name in ("lstm", "gru", "rnn")]
    assert len({(str(m.params), str(m.space), m.history) for m in recurrent}) == 1


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["features=standard"], "told by their dose alone"),
        (["features.treatments=none"], "told by their dose alone"),
        (["task=next_day_onset"], "the state in the ward's own next step"),
        (["task.horizon=2"], "the state in the ward's own next step"),
        (["cohort=extract"], "extract is none"),
        (["memory.baseline=ar11"], "'ar11', which is not among the models"),
        (["memory.lags=20"], "gradients 30 steps back"),
        (["memory.lags=80"], "effects over 80 steps cannot be followed"),
    ],
)
def test_an_experiment_that_makes_no_sense_is_refused(overrides: list[str], said: str):
    with pytest.raises(UsageError) as error:
        memory.replicates(compose("memory_study", overrides))
    assert said in error.value.what
    assert error.value.todo


def test_an_experiment_without_a_study_has_none():
    with pytest.raises(UsageError, match="has no memory study"):
        memory.replicates(compose("demo"))


def test_a_stay_that_is_not_held_out_is_refused():
    small = [choice for choice in SMALL if "rnn" not in choice]
    config = compose(
        "memory_study",
        [*small, "models=[lstm,ar1]", "memory.replicates=1", "memory.example_stay=99999"],
    )
    with pytest.raises(UsageError, match="99999 is not among the held-out"):
        memory.study(config, *prepared(config))


def test_without_recurrent_models_there_is_a_study_without_gradients_and_gates():
    small = [choice for choice in SMALL if "rnn" not in choice and "lstm" not in choice]
    config = compose(
        "memory_study", [*small, "models=[logistic_regression,ar1]", "memory.replicates=1"]
    )
    found = memory.report(memory.study(config, *prepared(config)))
    assert found.stay is None
    assert found.gradients.is_empty()
    page = str(memory_section(found))
    assert "steps back" not in page
    assert "logistic_regression closes" in page or "ar1 closes" in page
