"""Composition of experiments: choices, overrides, and errors that name the nearest key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from flowsheet.compose import GROUPS, choices, compose, compose_cohort, load
from flowsheet.config import ExperimentConfig
from flowsheet.errors import UsageError


def test_a_choice_and_a_value_can_be_overridden():
    config = compose(
        "demo", ["tuning=none", "evaluation.test=0.3", "models=[logistic_regression]", "seed=7"]
    )
    assert config.tuning.name == "none"
    assert config.evaluation.test == 0.3
    assert list(config.models) == ["logistic_regression"]
    assert config.seed == 7


NO_EPOCHS = (
    "models.lstm.params",
    {"hidden": 64, "embedding": 64, "patience": 30, "input_dropout": 0},
)
"""The fixed parameters of the memory study's LSTM, without the one that is tuned instead."""


@pytest.mark.parametrize(
    ("experiment", "overrides", "key", "value"),
    [
        ("physionet2019", ["tuning=none"], "models.lstm.trials", None),
        ("physionet2019", ["tuning=none"], "tuning.trials", 1),
        ("physionet2019", ["tuning.trials=2"], "models.gradient_boosting.trials", None),
        ("physionet2019", ["tuning.metric=auroc"], "models.lstm.trials", 5),
        ("physionet2019", ["tuning=none", "models.lstm.trials=3"], "models.lstm.trials", 3),
        ("physionet2019", ["models.lstm.trials=3", "tuning=none"], "models.lstm.trials", None),
        ("physionet2019", ["models.lstm.trials=3", "models=[lstm]"], "models.lstm.trials", 3),
        ("physionet2019", ["models=[lstm]"], "models.lstm.trials", 5),
        ("demo", ["tuning.trials=7", "tuning=none"], "tuning.trials", 1),
        ("demo", ["tuning=none", "tuning.trials=7"], "tuning.trials", 7),
        ("demo", ["tuning.trials=7", "tuning.trials=8"], "tuning.trials", 8),
        ("demo", ["cohort=simulated_small"], "cohort.options.stays", 120),
        ("demo", ["cohort.options.stays=9", "cohort=simulated"], "cohort.options.stays", 1200),
        ("demo", ["cohort=simulated", "cohort.options.stays=9"], "cohort.options.stays", 9),
        ("demo", ["task=same_day", "task=next_day"], "task.horizon", 1),
        ("demo", ["task.horizon=2", "task=next_day"], "task.horizon", 1),
        (
            "demo",
            ["features.carry_forward_hours=9", "features=standard"],
            "features.carry_forward_hours",
            48,
        ),
        ("demo", ["evaluation.resamples=99", "evaluation=quick"], "evaluation.resamples", 200),
        ("demo", ["compute.workers=9", "compute=single"], "compute.workers", 1),
        ("demo", ["models.lstm.params.epochs=2"], "models.lstm.params.epochs", 2),
        ("demo", ["seed=3", "seed=4"], "seed", 4),
        ("physionet2019_nested", ["registry.register_models=true"], "registry.register_models", 1),
        ("memory_study", ["models.lstm.space={}"], "models.lstm.space", {}),
        ("memory_study", ["models.lstm.space.epochs={type: int, low: 1, high: 2}"], *NO_EPOCHS),
        ("memory_study", ["models.lstm.space={epochs: {type: int, low: 1, high: 2}}"], *NO_EPOCHS),
        ("memory_study", ["evaluation=quick"], "evaluation.validation", 0.16),
        ("memory_study", ["memory=null"], "memory", None),
    ],
)
def test_what_is_typed_last_wins(experiment: str, overrides: list[str], key: str, value: object):
    found: Any = compose(experiment, overrides).model_dump()
    for part in key.split("."):
        found = found[part]
    assert found == value


def test_a_number_in_scientific_notation_is_a_number():
    config = compose(
        "demo", ["models=[logistic_regression]", "models.logistic_regression.params.l2=1e-3"]
    )
    assert config.models["logistic_regression"].params["l2"] == pytest.approx(0.001)


def test_the_experiment_is_frozen():
    with pytest.raises(ValidationError):
        compose("demo").seed = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("tuning.trails=3", 'did you mean "trials"'),
        ("tunning.trials=3", 'did you mean "tuning"'),
        ("cohort.quarantine.max_shar=0.1", 'did you mean "max_share"'),
        ("models.lstm.parms.hidden=3", 'did you mean "params"'),
        ("models.lsmt.params.hidden=3", 'did you mean "lstm"'),
        ("task.target=stat", 'did you mean "state"'),
        ("tuning.trials=many", "tuning.trials='many'"),
        ("tuning.trials=0", "tuning.trials=0"),
        ("evaluation.test=1.5", "evaluation.test=1.5"),
        ("seed=-1", "seed=-1"),
        ("cohort=simulatd", 'did you mean "simulated"'),
        ("models=[lstmm]", 'did you mean "lstm"'),
        ("models=[]", "models"),
        ("task.cutoff_hours=8", "horizon 0"),
        ("nonsense", "KEY=VALUE"),
        ("=3", "KEY=VALUE"),
        ("tuning.trials=[1", "tuning.trials"),
        ("models.lstm.params.dropout=.inf", "models.lstm.params.dropout is not a finite number"),
        ("cohort.options.drugs=[1]", "an override cannot be applied"),
    ],
)
def test_a_wrong_override_is_an_error_with_a_hint(override: str, hint: str):
    with pytest.raises(UsageError) as error:
        compose("demo", [override])
    assert hint in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        *("ward #2", "007", "on", "12:30:00", "1e3", "1_000", "[x]", "@x", "%41", "a: b", "*d"),
        *("a=b", "it's", "2024-06-01", "${HOME}", "${", "{x}", "a,b", "~x", " x ", "!x", "|"),
    ],
)
def test_text_is_taken_as_it_is_typed(text: str):
    path = compose_cohort("extract", [f"cohort.path={text}"]).path
    assert path == str(Path(text).absolute())
    assert compose("demo", [f"description={text}"]).description == text
    options = compose_cohort("meds", [f"cohort.options.labels={text}"]).options
    assert options["labels"] == text


def test_other_values_are_yaml_and_typed_by_the_source_and_the_model():
    default = compose_cohort("mimic3").options["sepsis3"]
    options = compose_cohort(
        "mimic3", ["cohort.options.sepsis3={points: 3}", "cohort.options.time_zone=null"]
    ).options
    assert options["sepsis3"] == {**default, "points": 3}
    assert options["time_zone"] is None
    config = compose("demo", ["models=[lstm]", "models.lstm.params.hidden=12"])
    assert config.models["lstm"].params["hidden"] == 12


@pytest.mark.parametrize(
    "override", ["models=${", "tuning.trials=${", "tuning.trials=${seed}", "seed=[${", "cohort=${"]
)
def test_an_interpolation_is_a_usage_error(override: str):
    with pytest.raises(UsageError):
        compose("demo", [override])


def test_an_unknown_experiment_is_an_error_that_names_the_nearest():
    with pytest.raises(UsageError, match='did you mean "demo"'):
        compose("demoo")


@pytest.mark.parametrize("name", ["a" * 5000, "../tuning/none", "a\0b", "/etc/hosts"])
def test_a_choice_that_can_be_no_file_is_an_error(name: str):
    with pytest.raises(UsageError, match="there is no tuning called"):
        compose("demo", [f"tuning={name}"])
    with pytest.raises(UsageError):
        compose(f"/{name}.yaml")


def test_a_cohort_takes_its_own_overrides_only():
    cohort = compose_cohort("physionet2019", ["cohort.path=x.zip"])
    assert cohort.path == str(Path("x.zip").absolute())
    with pytest.raises(UsageError, match="not a key of a cohort"):
        compose_cohort("physionet2019", ["tuning.trials=3"])


@pytest.mark.parametrize("experiment", choices("experiment"))
def test_every_experiment_composes_and_can_be_written_as_json(experiment: str):
    config = compose(experiment)
    assert ExperimentConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize("group", [*GROUPS, "model"])
def test_every_choice_loads(group: str):
    names = choices(group)
    assert names
    for name in names:
        assert isinstance(load(group, name), dict)


def test_local_choices_take_precedence(tmp_path, monkeypatch):
    for folder, trials in (("tuning", 3), ("local/tuning", 4)):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "custom.yaml").write_text(f"trials: {trials}\n", encoding="utf-8")
    monkeypatch.setenv("FLOWSHEET_CONF", str(tmp_path))
    assert load("tuning", "custom") == {"trials": 4, "name": "custom"}


@pytest.mark.parametrize(
    "text",
    [
        "trials: [1\n",
        "trials: " + "9" * 5000,
        "[" * 5000,
        "".join(f"{' ' * depth}a:\n" for depth in range(600)),
        "a: &a [*a]\n",
        "trials: ???\nother: ${trials}\n",
        "trials: !!python/object/apply:os.getcwd []\n",
    ],
    ids=["open", "digits", "deep list", "deep keys", "recursive", "missing", "code"],
)
def test_a_file_that_is_not_yaml_is_an_error_that_names_it(tmp_path, monkeypatch, text):
    (tmp_path / "tuning").mkdir()
    (tmp_path / "tuning" / "broken.yaml").write_text(text, encoding="utf-8")
    monkeypatch.setenv("FLOWSHEET_CONF", str(tmp_path))
    with pytest.raises(UsageError, match=r"broken\.yaml") as raised:
        load("tuning", "broken")
    assert len(str(raised.value)) < 1000


@pytest.mark.parametrize("value", ["3", "[1]", "text"])
def test_overrides_of_a_file_that_are_no_keys_are_refused(tmp_path, value):
    file = tmp_path / "own.yaml"
    file.write_text(f"cohort: simulated\noverride: {value}\n", encoding="utf-8")
    with pytest.raises(UsageError, match="'override' must contain keys"):
        compose(str(file))
