from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import optuna
import pytest

from flowsheet.config import Choice, FloatRange, ModelConfig, TuningConfig
from flowsheet.errors import CheckFailed
from flowsheet.tuning.records import TrialState
from flowsheet.tuning.study import tune


@pytest.fixture
def search(toy, tmp_path):
    def go(
        work=tmp_path / "work",
        *,
        seed=5,
        score=toy.mean,
        tuning=toy.TUNING,
        storage=None,
        told=None,
        **config,
    ):
        data = toy.sequences()
        return tune(
            "toy", ModelConfig(kind="toy", **config), tuning, data, data, seed=seed, score=score, work=work,
            storage=storage, on_trial=lambda record: None if told is None else told.append(record),
        )  # fmt: skip

    return go


def test_the_first_trial_has_the_defaults_and_the_best_model_is_kept(toy, search, tmp_path):
    tuned = search()
    assert len(tuned.trials) == 12
    assert tuned.trials[0].params == toy.ToyParams().model_dump()
    complete = [t for t in tuned.trials if t.state is TrialState.complete]
    assert tuned.value == max(t.value for t in complete) > tuned.trials[0].value
    assert toy.Toy.load(tuned.folder).params.model_dump() == tuned.params
    assert [p.name for p in tuned.folder.parent.iterdir()] == [tuned.folder.name]
    assert not list((tmp_path / "work").rglob("epoch.json"))


def test_the_same_seed_gives_the_same_study_and_another_gives_another(search, tmp_path):
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
    assert {json.loads(line)[2] for line in (tmp_path / "log").read_text().splitlines()} == {5}


def test_a_finished_study_runs_nothing_again(search, tmp_path, monkeypatch):
    first = search()
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "log"))
    assert search() == first
    assert not (tmp_path / "log").exists()


def test_a_study_grows_to_the_one_that_had_more_trials_at_once(search, tmp_path):
    search(trials=5)
    assert search().fingerprint == search(tmp_path / "other").fingerprint


def test_pruning_gives_up_on_bad_draws_and_says_so(search, tmp_path):
    tuned = search()
    pruned = [t for t in tuned.trials if t.state is TrialState.pruned]
    assert pruned
    assert all(len(t.curve) < 5 and t.value == t.curve[max(t.curve)] for t in pruned)
    unpruned = search(
        tmp_path / "unpruned",
        tuning=TuningConfig(name="t", trials=12, startup_trials=3, prune=False),
    )
    assert {t.state for t in unpruned.trials} == {TrialState.complete}


def test_the_first_among_equals_is_best(search):
    assert search(score=lambda y, p: 0.5).best.number == 0


def test_equal_draws_are_fitted_once(search, tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "log"))
    tuned = search(
        space={"kind": Choice(of=("a", "b"))}, tuning=TuningConfig(name="t", trials=6, prune=False)
    )
    assert len(tuned.trials) == 6
    assert len((tmp_path / "log").read_text().splitlines()) == 2 * 2
    assert {t.params["kind"]: t.value for t in tuned.trials}.keys() == {"a", "b"}


@pytest.mark.parametrize(
    "config", [{"space": {}}, {"trials": 1}, {"params": {"x": 0.5, "n": 2, "kind": "b"}}]
)
def test_nothing_to_search_is_one_trial(search, config):
    tuned = search(**config)
    assert len(tuned.trials) == 1
    assert {k: tuned.params[k] for k in config.get("params", {})} == config.get("params", {})


def test_fixed_parameters_stay_fixed_and_a_space_of_ones_own_is_used(search):
    tuned = search(
        params={"n": 7}, space={"x": FloatRange(low=0.5, high=0.6), "n": Choice(of=(1, 2))}
    )
    assert {t.params["n"] for t in tuned.trials} == {7}
    assert tuned.trials[0].params["x"] == 0.5  # the default, 0.2, moved into the range
    assert all(0.5 <= t.params["x"] <= 0.6 for t in tuned.trials)


def test_a_failing_trial_is_recorded_and_the_search_goes_on(search):
    tuned = search(params={"fail_above": 0.6})
    failed = [t for t in tuned.trials if t.state is TrialState.failed]
    assert failed
    assert all(t.error == "ArithmeticError: did not converge" and t.value is None for t in failed)
    assert len(tuned.trials) == 12
    assert tuned.params["x"] <= 0.6


def test_failing_defaults_fail_the_study_each_time(search):
    for _ in range(2):
        with pytest.raises(
            CheckFailed, match="toy failed with its default parameters: ArithmeticError"
        ):
            search(params={"fail_above": 0.1})


def test_a_model_that_refuses_the_task_is_heard(search):
    with pytest.raises(CheckFailed, match="not for toys"):
        search(params={"unfit": True})


def test_a_score_that_cannot_be_computed_is_an_error(search):
    with pytest.raises(CheckFailed, match="3 events in 6 scored rows"):
        search(score=lambda y, p: float("nan"))


@pytest.mark.parametrize("events", [[], [1], [0, 0]])
def test_validation_rows_of_one_class_are_judged_by_log_loss(toy, tmp_path, events):
    """A small fold without events must not stop an experiment, nor choose by a figure that means nothing."""
    data = toy.sequences()
    valid = replace(
        data,
        scored=np.arange(data.rows) < len(events),
        y=np.resize([*events, 0], data.rows).astype("i1"),
    )
    told = []
    tuned = tune(
        "toy", ModelConfig(kind="toy"), toy.TUNING, data, valid,
        seed=5, score=lambda y, p: float("nan"), work=tmp_path, progress=told.append,
    )  # fmt: skip
    quality = toy.Toy(toy.ToyParams(**tuned.params)).quality()
    expected = {0: 0.0, 1: np.log(quality), 2: np.log(1 - quality)}[len(events)]
    assert tuned.value == pytest.approx(expected)
    assert f"warning: {sum(events)} events in {len(events)} validation rows" in " ".join(told)


def test_predictions_that_are_not_numbers_are_an_error(search):
    with pytest.raises(CheckFailed, match="6 of 6 predictions are not finite"):
        search(params={"nan": True})


def test_the_score_sees_scored_rows_only(toy, tmp_path):
    data = toy.sequences()
    data.scored[:2] = False
    seen = []

    def score(y, p):
        seen.append((y.tolist(), len(p)))
        return 0.5

    tune(
        "toy",
        ModelConfig(kind="toy", trials=1),
        toy.TUNING,
        data,
        data,
        seed=1,
        score=score,
        work=tmp_path,
    )
    assert seen == [([0, 1, 0, 1], 4)]


def test_time_is_up_between_trials(search):
    tuned = search(tuning=TuningConfig(name="t", trials=12, timeout_minutes=1e-9))
    assert len(tuned.trials) == 1


def test_every_trial_is_told_in_order_and_again_when_taken_up(search):
    told = []
    tuned = search(told=told)
    assert told == list(tuned.trials)
    search(told=told)
    assert told == list(tuned.trials) * 2


def test_a_cut_last_line_of_the_journal_is_dropped(search, tmp_path):
    whole = search(tmp_path / "whole")
    search(trials=6)
    (journal,) = (tmp_path / "work").rglob("study.journal")
    journal.write_bytes(journal.read_bytes() + b'{"op_code":4,"work')
    assert search().fingerprint == whole.fingerprint


def test_a_shared_database_gives_the_same_study(search, tmp_path):
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    assert search(storage=url).fingerprint == search(tmp_path / "journal").fingerprint


class Killed(BaseException):
    """Ends a fit as abruptly as a test in the same process can."""


@pytest.mark.parametrize("report", [0, 7, 13, 20, 34])
def test_interrupted_at_any_report_the_study_ends_the_same(
    toy, search, tmp_path, monkeypatch, report
):
    whole = search(tmp_path / "whole")
    count = 0
    fit = toy.Toy.fit

    def interrupted(self, train, valid, context):
        def tell(step, value):
            nonlocal count
            context.report_score(step, value)
            count += 1
            if count == report + 1:
                raise Killed

        fit(self, train, valid, replace(context, report_score=tell))

    with monkeypatch.context() as patch:
        patch.setattr(toy.Toy, "fit", interrupted)
        with pytest.raises(Killed):
            search()
    resumed = search()
    assert [t.result() for t in resumed.trials] == [t.result() for t in whole.trials]
    assert np.isclose(resumed.value, whole.value)


def test_a_storage_that_fails_is_not_the_parameters_fault(search, tmp_path, monkeypatch):
    whole = search(tmp_path / "whole")
    search(trials=3)

    def fail(self, value, step):
        raise optuna.exceptions.StorageInternalError("the server closed the connection")

    with monkeypatch.context() as patch:
        patch.setattr(optuna.Trial, "report", fail)
        with pytest.raises(optuna.exceptions.StorageInternalError):
            search()
    assert search().fingerprint == whole.fingerprint


def test_a_resumed_fit_goes_on_from_its_checkpoint(toy, search, tmp_path, monkeypatch):
    def score(y, p):
        raise Killed

    with pytest.raises(Killed):
        search(score=score)
    (saved,) = (tmp_path / "work").rglob("epoch.json")
    assert json.loads(saved.read_text()) == toy.EPOCHS
    epochs = []
    monkeypatch.setattr(toy.time, "sleep", epochs.append)
    resumed = search(trials=1)
    assert not epochs
    whole = search(tmp_path / "whole", trials=1)
    assert len(epochs) == toy.EPOCHS
    assert resumed.trials[0].curve == whole.trials[0].curve
