"""Successive halving and Hyperband spend little on bad draws; interruptions change nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import optuna
import pytest

from flowsheet.config import ModelConfig, TuningConfig, validate_config
from flowsheet.errors import UsageError
from flowsheet.tuning.partial_data import choose_subjects, select_part
from flowsheet.tuning.pruning import HalvingPruner
from flowsheet.tuning.records import TrialState
from flowsheet.tuning.study import tune

STEPS = 27


def run_study(pruner: HalvingPruner, values: list[float], interrupted: tuple[int, ...] = ()):
    """The state and the number of steps of a trial for each value, which rises step by step.

    The trials at the positions ``interrupted`` are stopped in the middle, and repeated.
    """
    study = optuna.create_study(study_name="fixed", pruner=pruner, direction="maximize")
    results = []
    for position, value in enumerate(values):
        for is_killed in (True, False) if position in interrupted else (False,):
            trial = study.ask()
            state = run_trial(trial, value, STEPS // 2 if is_killed else STEPS)
            study.tell(trial, value if state is optuna.trial.TrialState.COMPLETE else None, state)
        results.append((state, len(study.trials[-1].intermediate_values)))
    return results


def run_trial(trial: optuna.Trial, value: float, steps: int) -> optuna.trial.TrialState:
    for step in range(STEPS):
        if step == steps:
            return optuna.trial.TrialState.FAIL
        trial.report(value * (step + 1) / STEPS, step)
        if trial.should_prune():
            return optuna.trial.TrialState.PRUNED
    return optuna.trial.TrialState.COMPLETE


@pytest.mark.parametrize("has_brackets", [False, True])
def test_the_best_trial_completes_and_most_others_end_early(has_brackets):
    values = np.random.default_rng(3).permutation(60) / 60
    results = run_study(HalvingPruner(3, 1, has_brackets=has_brackets), values.tolist())
    best = int(values.argmax())
    assert results[best] == (optuna.trial.TrialState.COMPLETE, STEPS)
    assert sum(steps for _, steps in results) < 60 * STEPS / 2
    first_rungs = {steps for state, steps in results if steps < STEPS}
    assert 2 in first_rungs  # a trial reports the steps 0 and 1 until it is at the rung 1
    assert (len(first_rungs) > 1) or not has_brackets


@pytest.mark.parametrize("has_brackets", [False, True])
def test_interrupted_trials_change_no_decision(has_brackets):
    values = np.random.default_rng(4).random(25).tolist()
    pruner = HalvingPruner(3, 1, has_brackets=has_brackets)
    uninterrupted = run_study(pruner, values)
    # trials that reach the middle can be interrupted there
    long = [i for i, (_, steps) in enumerate(uninterrupted) if steps > STEPS // 2]
    assert len(long) > 2
    assert run_study(pruner, values, interrupted=(long[0], long[-1])) == uninterrupted


def tune_toy(toy, folder, tuning: TuningConfig, data=None):
    data = toy.sequences(200) if data is None else data
    return tune(
        "toy",
        ModelConfig(kind="toy"),
        tuning,
        data,
        data,
        seed=5,
        score=toy.mean_probability,
        folder=folder,
    )


def make_tuning(pruner: str, **changes: object) -> TuningConfig:
    return TuningConfig(name="t", trials=14, startup_trials=8, pruner=pruner, **changes)


@pytest.mark.parametrize("pruner", ["successive_halving", "hyperband"])
def test_a_search_prunes_and_repeats_itself(toy, tmp_path, pruner):
    first = tune_toy(toy, tmp_path / "a", make_tuning(pruner))
    again = tune_toy(toy, tmp_path / "b", make_tuning(pruner))
    assert first.fingerprint == again.fingerprint
    states = [trial.state for trial in first.trials]
    assert states[0] is TrialState.complete
    assert TrialState.pruned in states


def test_early_rungs_see_a_part_of_the_subjects_and_the_winner_all(toy, tmp_path, monkeypatch):
    seen = []
    fit = toy.Toy.fit

    def count_stays(model, train, valid, context):
        seen.append((model.params.x, len(train)))
        fit(model, train, valid, context)

    monkeypatch.setattr(toy.Toy, "fit", count_stays)
    tuning = make_tuning("successive_halving", partial_data=0.1)
    tuned = tune_toy(toy, tmp_path, tuning)
    sizes = sorted({stays for _, stays in seen})
    assert sizes[-1] == 200
    assert len(sizes) == 3
    assert sizes[0] == pytest.approx(20, abs=12)
    assert sizes[1] == pytest.approx(60, abs=20)
    assert (tuned.params["x"], 200) in seen
    pruned = [trial for trial in tuned.trials if trial.state is TrialState.pruned]
    assert pruned
    assert all(set(trial.curve) <= {1, 3} for trial in tuned.trials)
    assert sum(stays == 200 for _, stays in seen) == len(tuned.trials) - len(pruned)


def test_a_part_without_events_is_passed_over(toy, tmp_path):
    data = toy.sequences(200)
    rare = replace(data, y=np.where(np.arange(400) < 8, data.y, 0).astype(np.int8))
    assert select_part(rare, 0.5, 1) is None
    tuned = tune_toy(toy, tmp_path, make_tuning("median", partial_data=0.1), rare)
    assert all(not trial.curve for trial in tuned.trials)


def test_parts_are_nested_seeded_and_of_the_declared_size():
    subjects = np.arange(-5_000, 15_000)
    tenth, third = (choose_subjects(subjects, share, 1) for share in (0.1, 0.3))
    assert tenth.mean() == pytest.approx(0.1, abs=0.01)
    assert third.mean() == pytest.approx(0.3, abs=0.01)
    assert (third | ~tenth).all()
    assert (choose_subjects(subjects[::7], 0.1, 1) == tenth[::7]).all()
    assert (choose_subjects(subjects, 0.1, 2) != tenth).any()


def test_records_of_earlier_releases_are_read():
    assert TuningConfig(name="t", prune=False).pruner == "none"
    assert TuningConfig(name="t", prune=True).pruner == "median"


def test_partial_data_needs_a_pruner():
    with pytest.raises(UsageError, match="partial_data needs a pruner"):
        validate_config(
            TuningConfig, {"name": "t", "pruner": "none", "partial_data": 0.2}, "tuning"
        )


class Killed(BaseException):
    """Ends a fit as abruptly as possible in the same process."""


@pytest.mark.parametrize(("partial_data", "epochs_before_kill"), [(None, 7), (0.1, 30)])
def test_a_search_that_is_killed_comes_to_the_same_result(
    toy, tmp_path, monkeypatch, partial_data, epochs_before_kill
):
    tuning = make_tuning("hyperband", partial_data=partial_data)
    uninterrupted = tune_toy(toy, tmp_path / "uninterrupted", tuning)
    epochs = 0
    fit = toy.Toy.fit

    def fit_until_kill(model, train, valid, context):
        def report_score(step, value):
            nonlocal epochs
            context.report_score(step, value)
            epochs += 1
            if epochs == epochs_before_kill:
                raise Killed

        fit(model, train, valid, replace(context, report_score=report_score))

    with monkeypatch.context() as patch:
        patch.setattr(toy.Toy, "fit", fit_until_kill)
        with pytest.raises(Killed):
            tune_toy(toy, tmp_path / "killed", tuning)
    resumed = tune_toy(toy, tmp_path / "killed", tuning)
    assert resumed.fingerprint == uninterrupted.fingerprint
