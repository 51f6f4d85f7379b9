"""The minutes of an experiment are shared out between its searches, and what is left goes on."""

from __future__ import annotations

import pytest

from flowsheet.config import ModelConfig, TuningConfig
from flowsheet.errors import CheckFailed
from flowsheet.lifecycle.experiment import search_budget
from flowsheet.lifecycle.experiment.folds import ExperimentPlan, FoldSpec, repeat_recorded_trials
from flowsheet.lifecycle.experiment.search_budget import fair_share, list_weights, search_time
from flowsheet.windows.protocol import FoldId
from tests.tiny import experiment

MODELS = ("gru", "lstm", "rnn")
KEYS = {name: name * 20 for name in MODELS}


def make_config(**weights: float):
    models = {
        name: ModelConfig(kind=name, minutes_weight=weights.get(name, 1.0)) for name in MODELS
    }
    models["prevalence"] = ModelConfig(kind="prevalence")
    return experiment("budget", models=models, tuning=TuningConfig(name="t", minutes=60))


def search(config, name: str, used: float, folds: int = 1) -> float | None:
    """Run a search that takes that long; returns the granted minutes."""
    with search_time(config, name, KEYS, folds) as time:
        time.used_minutes = used
        return time.tuning.timeout_minutes


def test_equal_parts_and_what_is_left_over_goes_on_to_later_models():
    config = make_config()
    assert search(config, "gru", used=2) == pytest.approx(20)
    assert search(config, "lstm", used=29) == pytest.approx(29)
    assert search(config, "rnn", used=29) == pytest.approx(29)


def test_the_parts_are_in_proportion_to_the_weights():
    config = make_config(lstm=2)
    assert fair_share(config, "lstm", folds=1) == pytest.approx(30)
    assert search(config, "gru", used=15) == pytest.approx(15)
    assert search(config, "lstm", used=30) == pytest.approx(30)
    assert search(config, "rnn", used=15) == pytest.approx(15)


def test_searches_side_by_side_never_have_more_than_there_is():
    config = make_config()
    with (
        search_time(config, "gru", KEYS, 1) as gru,
        search_time(config, "lstm", KEYS, 1) as lstm,
        search_time(config, "rnn", KEYS, 1) as rnn,
    ):
        granted = [time.tuning.timeout_minutes for time in (gru, lstm, rnn)]
    assert sum(granted) == pytest.approx(60)


def test_a_search_that_was_killed_keeps_its_part_and_counts_as_it_was_granted():
    config = make_config()
    with (
        pytest.raises(KeyboardInterrupt),
        search_time(config, "gru", KEYS, 1),
    ):
        raise KeyboardInterrupt
    assert search(config, "lstm", used=20) == pytest.approx(20)
    assert search(config, "gru", used=20) == pytest.approx(20)


def test_a_model_that_does_not_apply_leaves_its_time_to_the_others():
    config = make_config()
    with pytest.raises(CheckFailed), search_time(config, "gru", KEYS, 1):
        raise CheckFailed("not for this task")
    assert search(config, "lstm", used=30) == pytest.approx(30)


def test_a_model_of_the_store_counts_what_it_took(monkeypatch):
    monkeypatch.setattr(search_budget, "_used_elsewhere", {KEYS["gru"]: 40.0}.get)
    assert search(make_config(), "lstm", used=10) == pytest.approx(10)


def test_every_fold_has_an_equal_part():
    assert search(make_config(), "gru", used=1, folds=5) == pytest.approx(4)


def test_models_without_a_search_have_no_part():
    config = make_config()
    assert set(list_weights(config)) == set(MODELS)
    assert search(config, "prevalence", used=0) is None


def test_the_own_limit_of_a_model_holds_as_well():
    config = make_config()
    limited = config.tuning.model_copy(update={"timeout_minutes": 5})
    assert search(config.model_copy(update={"tuning": limited}), "gru", used=5) == 5


def test_a_rerun_repeats_the_recorded_number_of_trials_of_each_fold():
    recorded = {"gru 1.1": 7, "gru final refit": 9}
    tuning = TuningConfig(name="t", recorded_trials=recorded)
    config = make_config().model_copy(update={"tuning": tuning})
    first, final = (
        FoldSpec.model_construct(id=FoldId(name), config=config) for name in ("1.1", "final refit")
    )
    plan = ExperimentPlan.model_construct(folds=(first,), final_refit=final)
    repeated = repeat_recorded_trials(plan)
    assert repeated.folds[0].config.models["gru"].trials == 7
    assert repeated.final_refit.config.models["gru"].trials == 9
    assert repeated.folds[0].config.models["lstm"].trials is None
