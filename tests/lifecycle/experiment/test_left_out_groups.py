"""The development subjects with one group held out."""

import numpy as np
import pytest

from flowsheet.compose import compose
from flowsheet.config import Choice, CohortConfig, ComputeConfig, ModelConfig, TuningConfig
from flowsheet.errors import UsageError
from flowsheet.lifecycle.experiment import prepare
from flowsheet.lifecycle.experiment.check import check_config
from flowsheet.lifecycle.experiment.train import FoldData, load_params, load_trials, train_model
from flowsheet.lifecycle.experiment.tuning_data import list_left_out_groups
from flowsheet.windows.shards import ShardedInputs
from tests.tiny import experiment


def test_no_subject_of_a_group_and_no_test_subject_is_fitted_on():
    config = experiment(
        "shift",
        cohort=CohortConfig(name="ward", source="simulated", options={"stays": 200}),
        tuning=TuningConfig(name="shift", pruner="none", leave_out="charting"),
        models={"logistic": ModelConfig(kind="logistic_regression")},
    )
    extract = prepare.ingest_cohort(config.cohort, print)
    windows = prepare.build_windows(extract, config.task, config.features)
    split = prepare.split_subjects(extract, windows, config.evaluation, config.seed)
    train, valid, test = FoldData(extract=extract, windows=windows, split=split).load_parts()
    groups = list_left_out_groups(config, "logistic", extract, train, valid)
    assert {group.name for group in groups} >= {"charted least", "charted most"}
    nothing_to_choose = {"models": {"logistic": ModelConfig(kind="logistic_regression", space={})}}
    unsearched = config.model_copy(update=nothing_to_choose)
    assert list_left_out_groups(unsearched, "logistic", extract, train, valid) == []
    development = np.union1d(train.subject_id, valid.subject_id)
    held_out = [np.unique(group.load().held_out.subject_id) for group in groups]
    np.testing.assert_array_equal(np.sort(np.concatenate(held_out)), development)
    parts = groups[0].load()
    fitted = np.union1d(parts.train.subject_id, parts.valid.subject_id)
    assert not np.intersect1d(fitted, held_out[0]).size
    assert not np.intersect1d(test.subject_id, development).size
    constant = parts.train.x.std(axis=0) == 0
    means = parts.train.x.mean(axis=0)[~constant]
    assert np.abs(means).max() < 1.5  # scaled by these training stays
    judged = parts.held_out.y[parts.held_out.scored]
    assert parts.score(judged, np.full(len(judged), 0.5)) == pytest.approx(judged.mean(), abs=0.2)
    in_group = {
        "models": {"lstm": ModelConfig(kind="lstm")},
        "compute": ComputeConfig(name="two", processes_per_training=2),
    }
    of_two = config.model_copy(update=in_group)
    sharded = list_left_out_groups(of_two, "lstm", extract, train, valid)[0].load()
    assert isinstance(sharded.train.x, ShardedInputs)  # which are not sent to each process


@pytest.mark.parametrize("kind", ["gradient_boosting", "mlp"])
def test_models_that_report_while_they_fit_are_chosen_by_groups(kind):
    space = {"roles": Choice(of=("all", "all-clock"))}
    small = {"gradient_boosting": {"rounds": 10}, "mlp": {"epochs": 2}}[kind]
    config = experiment(
        "shift",
        cohort=CohortConfig(name="ward", source="simulated", options={"stays": 150}),
        tuning=TuningConfig(name="shift", trials=2, pruner="none", leave_out="charting"),
        models={"model": ModelConfig(kind=kind, params=small, space=space)},
    )
    extract = prepare.ingest_cohort(config.cohort, print)
    windows = prepare.build_windows(extract, config.task, config.features)
    split = prepare.split_subjects(extract, windows, config.evaluation, config.seed)
    lines = []
    data = FoldData(extract=extract, windows=windows, split=split)
    stage = train_model(config, "model", data, lambda _: None, lambda line: lines.append(str(line)))
    assert len(load_trials(stage)) == 2
    assert len([line for line in lines if line.startswith("without charted")]) >= 2
    roles = load_params(stage)["roles"]
    assert roles == "all" or "clock" not in roles


def test_the_shipped_choice_composes_and_members_are_not_tuned_by_groups():
    choices = ["tuning=shift", "models=[shift_robust_trees,gru,stack]"]
    check_config(compose("demo", choices))
    space = "models.stack.space={l2: {type: float, low: 1, high: 100}}"
    with pytest.raises(UsageError, match="cannot be tuned by groups"):
        check_config(compose("demo", [*choices, space]))
    wrong = "models.shift_robust_trees.params.rising=[lactate]"
    with pytest.raises(UsageError, match="lact"):
        check_config(compose("demo", [*choices, wrong]))
