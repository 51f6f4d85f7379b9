"""A study: its trials, its best model, and the same result after an interruption."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import optuna
import pytest

from flowsheet.config import Choice, FloatRange, ModelConfig, TuningConfig
from flowsheet.errors import CheckFailed, GpuMemoryError
from flowsheet.tuning.records import TrialState
from flowsheet.tuning.study import tune


@pytest.fixture
def search(toy, tmp_path):
    def run(
        folder=tmp_path / "work",
        *,
        seed=5,
        score=toy.mean_probability,
        tuning=toy.TUNING,
        storage=None,
        records=None,
        **config,
    ):
        data = toy.sequences()
        on_trial = (lambda record: None) if records is None else records.append
        return tune(
            "toy",
            ModelConfig(kind="toy", **config),
            tuning,
            data,
            data,
            seed=seed,
            score=score,
            folder=folder,
            storage=storage,
            on_trial=on_trial,
        )

    return run


def test_the_first_trial_has_the_defaults_and_the_best_model_is_kept(toy, search, tmp_path):
    tuned = search()
    assert len(tuned.trials) == 12
    assert tuned.trials[0].params == toy.ToyParams().model_dump()
    values = [trial.value for trial in tuned.trials if trial.state is TrialState.complete]
    assert tuned.value == max(values) > tuned.trials[0].value
    assert toy.Toy.load(tuned.folder).params.model_dump() == tuned.params
    assert [path.name for path in tuned.folder.parent.iterdir()] == [tuned.folder.name]
    assert not list((tmp_path / "work").rglob("epoch.json"))


def test_the_same_seed_gives_the_same_study_and_another_seed_gives_another(search, tmp_path):
    first, second = search(tmp_path / "a"), search(tmp_path / "b")
    assert [t.result() for t in first.trials] == [t.result() for t in second.trials]
    assert first.fingerprint == second.fingerprint
    assert search(tmp_path / "c", seed=6).fingerprint != first.fingerprint


def test_draws_differ_from_each_other(search):
    drawn = {(t.params["x"], t.params["n"], t.params["kind"]) for t in search().trials}
    assert len(drawn) >= 11


def test_all_trials_train_with_the_same_seed(search, tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "log"))
    search()
    lines = (tmp_path / "log").read_text(encoding="utf-8").splitlines()
    assert {json.loads(line)[2] for line in lines} == {5}


def test_a_finished_study_runs_no_trial_again(search, tmp_path, monkeypatch):
    first = search()
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "log"))
    assert search() == first
    assert not (tmp_path / "log").exists()


def test_trials_can_be_added_to_a_finished_study(search, tmp_path):
    search(trials=5)
    assert search().fingerprint == search(tmp_path / "at_once").fingerprint


def test_bad_draws_are_pruned(search, tmp_path):
    pruned = [trial for trial in search().trials if trial.state is TrialState.pruned]
    assert pruned
    for trial in pruned:
        assert len(trial.curve) < 5
        assert trial.value == trial.curve[max(trial.curve)]
    without_pruning = search(
        tmp_path / "unpruned",
        tuning=TuningConfig(name="t", trials=12, startup_trials=3, pruner="none"),
    )
    assert {trial.state for trial in without_pruning.trials} == {TrialState.complete}


def test_the_first_of_several_equal_trials_is_the_best(search):
    assert search(score=lambda y, p: 0.5).best.number == 0


def test_equal_draws_are_fitted_once(search, tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "log"))
    tuned = search(
        space={"kind": Choice(of=("a", "b"))},
        tuning=TuningConfig(name="t", trials=6, pruner="none"),
    )
    assert len(tuned.trials) == 6
    starts_and_ends = (tmp_path / "log").read_text(encoding="utf-8").splitlines()
    assert len(starts_and_ends) == 2 * 2
    assert {trial.params["kind"] for trial in tuned.trials} == {"a", "b"}


@pytest.mark.parametrize(
    "config", [{"space": {}}, {"trials": 1}, {"params": {"x": 0.5, "n": 2, "kind": "b"}}]
)
def test_without_parameters_to_tune_there_is_one_trial(search, config):
    tuned = search(**config)
    assert len(tuned.trials) == 1
    fixed = config.get("params", {})
    assert {name: tuned.params[name] for name in fixed} == fixed


def test_fixed_parameters_stay_fixed_and_a_configured_space_is_used(search):
    tuned = search(
        params={"n": 7}, space={"x": FloatRange(low=0.5, high=0.6), "n": Choice(of=(1, 2))}
    )
    assert {trial.params["n"] for trial in tuned.trials} == {7}
    assert tuned.trials[0].params["x"] == 0.5  # the default, 0.2, moved into the range
    assert all(0.5 <= trial.params["x"] <= 0.6 for trial in tuned.trials)


def test_a_failing_trial_is_recorded_and_the_search_continues(search):
    tuned = search(params={"fail_above": 0.6})
    failed = [trial for trial in tuned.trials if trial.state is TrialState.failed]
    assert failed
    for trial in failed:
        assert trial.error == "ArithmeticError: did not converge"
        assert trial.value is None
    assert len(tuned.trials) == 12
    assert tuned.params["x"] <= 0.6


def test_failing_defaults_fail_the_study_each_time(search):
    for _ in range(2):
        with pytest.raises(
            CheckFailed, match="toy failed with its default parameters: ArithmeticError"
        ):
            search(params={"fail_above": 0.1})


def test_a_gpu_without_memory_for_the_defaults_ends_the_run_and_for_others_only_the_trial(
    search, toy, monkeypatch
):
    fit = toy.Toy.fit

    def run_out(model, *arguments):
        try:
            fit(model, *arguments)
        except ArithmeticError:
            raise GpuMemoryError("the GPU has not the memory", todo="ask for less") from None

    monkeypatch.setattr(toy.Toy, "fit", run_out)
    tuned = search(params={"fail_above": 0.6})
    failed = [trial for trial in tuned.trials if trial.state is TrialState.failed]
    assert failed
    assert failed[0].error.startswith("GpuMemoryError: the GPU has not the memory")
    with pytest.raises(GpuMemoryError, match="the GPU has not the memory"):
        search(params={"fail_above": 0.1})


def test_a_model_that_rejects_the_task_fails_the_study(search):
    with pytest.raises(CheckFailed, match="cannot be fitted to this task"):
        search(params={"unfit": True})


def test_a_score_that_cannot_be_computed_is_an_error(search):
    with pytest.raises(CheckFailed, match="3 events in 6 scored rows"):
        search(score=lambda y, p: float("nan"))


@pytest.mark.parametrize("events", [[], [1], [0, 0]])
def test_validation_rows_of_one_class_are_scored_by_log_loss(toy, tmp_path, events):
    """A small fold without events must not stop an experiment."""
    data = toy.sequences()
    valid = replace(
        data,
        scored=np.arange(data.rows) < len(events),
        y=np.resize([*events, 0], data.rows).astype("i1"),
    )
    lines = []
    tuned = tune(
        "toy",
        ModelConfig(kind="toy"),
        toy.TUNING,
        data,
        valid,
        seed=5,
        score=lambda y, p: float("nan"),
        folder=tmp_path,
        progress=lines.append,
    )
    quality = toy.Toy(toy.ToyParams(**tuned.params)).quality()
    expected = {0: 0.0, 1: np.log(quality), 2: np.log(1 - quality)}[len(events)]
    assert tuned.value == pytest.approx(expected)
    warning = f"warning: {sum(events)} events in {len(events)} validation rows"
    assert any(line.startswith(warning) for line in lines)


def test_predictions_that_are_not_finite_are_an_error(search):
    with pytest.raises(CheckFailed, match="6 of 6 predictions are not finite"):
        search(params={"nan": True})


def test_the_score_is_computed_on_scored_rows_only(toy, search, monkeypatch):
    data = toy.sequences()
    data.scored[:2] = False
    monkeypatch.setattr(toy, "sequences", lambda: data)
    calls = []

    def score(y, p):
        calls.append((y.tolist(), len(p)))
        return 0.5

    search(trials=1, score=score)
    assert calls == [([0, 1, 0, 1], 4)]


def test_no_trial_starts_after_the_timeout(search):
    tuned = search(tuning=TuningConfig(name="t", trials=12, timeout_minutes=1e-9))
    assert len(tuned.trials) == 1


def test_every_trial_is_reported_in_order_and_again_when_resumed(search):
    records = []
    tuned = search(records=records)
    assert records == list(tuned.trials)
    search(records=records)
    assert records == list(tuned.trials) * 2


def test_an_incomplete_last_line_of_the_journal_is_removed(search, tmp_path):
    uninterrupted = search(tmp_path / "uninterrupted")
    search(trials=6)
    (journal,) = (tmp_path / "work").rglob("study.journal")
    journal.write_bytes(journal.read_bytes() + b'{"op_code":4,"work')
    assert search().fingerprint == uninterrupted.fingerprint


def test_a_shared_database_gives_the_same_study(search, tmp_path):
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    assert search(storage=url).fingerprint == search(tmp_path / "journal").fingerprint


class Killed(BaseException):
    """Ends a fit as abruptly as possible in the same process."""


@pytest.mark.parametrize("reports_before_kill", [1, 8, 14, 21, 35])
def test_a_study_that_is_killed_at_any_report_gives_the_same_result(
    toy, search, tmp_path, monkeypatch, reports_before_kill
):
    uninterrupted = search(tmp_path / "uninterrupted")
    reports = 0
    fit = toy.Toy.fit

    def fit_until_kill(self, train, valid, context):
        def report_score(step, value):
            nonlocal reports
            context.report_score(step, value)
            reports += 1
            if reports == reports_before_kill:
                raise Killed

        fit(self, train, valid, replace(context, report_score=report_score))

    with monkeypatch.context() as patch:
        patch.setattr(toy.Toy, "fit", fit_until_kill)
        with pytest.raises(Killed):
            search()
    resumed = search()
    assert [t.result() for t in resumed.trials] == [t.result() for t in uninterrupted.trials]
    assert np.isclose(resumed.value, uninterrupted.value)


def test_a_trial_that_failed_because_of_the_storage_is_repeated(search, tmp_path, monkeypatch):
    uninterrupted = search(tmp_path / "uninterrupted")
    search(trials=3)

    def fail(self, value, step):
        raise optuna.exceptions.StorageInternalError("the server closed the connection")

    with monkeypatch.context() as patch:
        patch.setattr(optuna.Trial, "report", fail)
        with pytest.raises(optuna.exceptions.StorageInternalError):
            search()
    assert search().fingerprint == uninterrupted.fingerprint


def test_a_resumed_fit_starts_from_its_checkpoint(toy, search, tmp_path, monkeypatch):
    def score(y, p):
        raise Killed

    with pytest.raises(Killed):
        search(score=score)
    (checkpoint,) = (tmp_path / "work").rglob("epoch.json")
    assert json.loads(checkpoint.read_text(encoding="utf-8")) == toy.EPOCHS
    epochs = []
    monkeypatch.setattr(toy.time, "sleep", epochs.append)
    resumed = search(trials=1)
    assert not epochs
    uninterrupted = search(tmp_path / "uninterrupted", trials=1)
    assert len(epochs) == toy.EPOCHS
    assert resumed.trials[0].curve == uninterrupted.trials[0].curve
