"""One Optuna study per model: seeded, pruned, and resumed after a kill.

The sampler is created anew for every trial from the base seed and the number of finished trials. An
interrupted trial therefore draws the same parameters again, and a resumed study takes the same
course as an uninterrupted one. All trials train with the same seed (common random numbers): they
differ by their parameters only.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from flowsheet.config import ModelConfig, TuningConfig
from flowsheet.errors import FlowsheetError
from flowsheet.progress import ProgressLine
from flowsheet.state.hashing import digest
from flowsheet.tuning.left_out import LeftOutGroup
from flowsheet.tuning.partial_data import list_rungs
from flowsheet.tuning.pruning import make_pruner
from flowsheet.tuning.records import TrialRecord, TrialState, TuningResult, best_trial
from flowsheet.tuning.shared import SharedStudy, study_name
from flowsheet.tuning.space import Search, resolve
from flowsheet.tuning.storage import is_journal_intact, open_database, open_journal
from flowsheet.tuning.trial import FitFunction, TrialError, TrialRunner, fit_here, has_result
from flowsheet.typing import Floats, Labels
from flowsheet.windows.sequences import Sequences

_POLL_SECONDS = 0.5
_LIMITS = {"name", "trials", "timeout_minutes", "minutes", "recorded_trials"}
"""Settings that decide how many trials there are, and not what they are."""

_STATES = {
    OptunaState.COMPLETE: TrialState.complete,
    OptunaState.PRUNED: TrialState.pruned,
    OptunaState.FAIL: TrialState.failed,
}


def tune(
    kind: str,
    config: ModelConfig,
    tuning: TuningConfig,
    train: Sequences,
    valid: Sequences,
    *,
    seed: int,
    score: Callable[[Labels, Floats], float],
    folder: Path,
    device: str = "cpu",
    threads: int = 1,
    on_trial: Callable[[TrialRecord], None] = lambda record: None,
    progress: Callable[[str], None] = lambda line: None,
    storage: str | None = None,
    members: Mapping[str, Path] | None = None,
    left_out: Sequence[LeftOutGroup] = (),
    fit: FitFunction = fit_here,
) -> TuningResult:
    """Search the model's parameters for the largest score on the validation split.

    Where the validation rows are of one class, the smallest log loss is searched for instead, with
    a warning.

    Args:
        kind: A registered model.
        config: Fixed parameters and search space.
        tuning: Trials, pruning and timeout.
        train: Training stays.
        valid: Validation stays.
        seed: Of the draws and of every fit.
        score: (y, p) of the scored validation rows -> the monitored metric; larger is better.
        folder: Work folder that survives a kill. Called again with the same arguments, the search
            resumes there and comes to the same result. Without ``storage`` the caller must hold a
            lock on it.
        device: ``cpu`` or ``cuda``.
        threads: Threads of a fit.
        on_trial: Called with every finished trial of the study in order, including those of an
            earlier call.
        progress: Called with a line to show to the user.
        storage: URL of a database instead of the journal in ``folder``. Any number of workers with
            the same ``folder`` may then call this at once, without a lock: they share the trials,
            and all return when the last is finished. The draws then depend on the order in which
            trials end.
        members: By name the packages of the models that this one is made of.
        left_out: Groups whose mean score is searched for instead of that of the validation split.
        fit: Fits a model, in this process or with others.

    Raises:
        UsageError: the configuration does not fit the model (see
            :func:`flowsheet.tuning.space.resolve`).
        CheckFailed: the model cannot be fitted to this task, the default parameters fail, or the
            score cannot be computed on the validation split.
        FlowsheetError: the fitted model of the best trial was changed.
    """
    search = resolve(kind, config).for_cohort(train)
    trials_wanted = (config.trials or tuning.trials) if search.ranges else 1
    settings = tuning.model_dump(mode="json", exclude=_LIMITS)
    key = digest({**search.describe(), "tuning": settings, "seed": seed})
    study_folder = folder / key[:16]
    study_folder.mkdir(parents=True, exist_ok=True)
    if storage is None:
        _discard_if_changed(study_folder, progress)
    study, shared = _open(study_folder, key, storage, tuning)
    runner = TrialRunner(
        search,
        study,
        study_folder,
        train,
        valid,
        seed,
        device,
        threads,
        score,
        progress,
        members or {},
        list_rungs(tuning.partial_data, tuning.reduction_factor),
        left_out,
        fit,
    )
    run = _StudyRun(study, shared, search, tuning, seed, trials_wanted, on_trial, progress)
    run.run_trials(runner)
    trials = run.records()
    best = best_trial(trials)
    assert best is not None  # the first trial has completed, or `run_trials` has raised
    best_finished = run.finished()[best.number]
    if not runner.is_model_intact(best_finished):
        raise FlowsheetError(
            "the fitted model of the best trial is not as it was saved",
            where=str(runner.model_folder(best_finished)),
            todo=f"delete {study_folder} and start again",
        )
    return TuningResult(runner.model_folder(best_finished), best, trials, key)


def _discard_if_changed(folder: Path, progress: Callable[[str], None]) -> None:
    """Begin a search anew whose journal is not as it was written: its scores cannot be trusted."""
    if not is_journal_intact(folder):
        progress("warning: the journal of the unfinished search was changed; it begins anew")
        shutil.rmtree(folder)
        folder.mkdir()


def _open(
    folder: Path, key: str, url: str | None, tuning: TuningConfig
) -> tuple[optuna.Study, SharedStudy | None]:
    if url is not None:
        storage = open_database(url)
        study = _open_study(study_name(folder, key), storage, tuning)
        return study, SharedStudy(study, storage, folder)
    study = _open_study(key, open_journal(folder), tuning)
    # Only one process works on a journal: a running trial is one that was killed.
    for trial in study.get_trials(deepcopy=False, states=(OptunaState.RUNNING,)):
        study.tell(trial.number, state=OptunaState.FAIL)
    return study, None


def _open_study(
    name: str, storage: optuna.storages.BaseStorage, tuning: TuningConfig
) -> optuna.Study:
    return optuna.create_study(
        study_name=name,
        storage=storage,
        pruner=make_pruner(tuning),
        direction="maximize",
        load_if_exists=True,
    )


@dataclass(frozen=True)
class _StudyRun:
    study: optuna.Study
    shared: SharedStudy | None
    search: Search
    tuning: TuningConfig
    seed: int
    trials_wanted: int
    on_trial: Callable[[TrialRecord], None]
    progress: Callable[[str], None]

    def run_trials(self, runner: TrialRunner) -> None:
        """Run trials until there are enough, or the time is over."""
        finished = len(self.finished())
        text = f"resuming after {finished} of {self.trials_wanted} trials" if finished else ""
        self.progress(ProgressLine(text, "trial", finished, self.trials_wanted))
        self._clean_up(runner)
        if self.shared:
            self._run_shared(self.shared, runner)
        for record in self.records():
            self.on_trial(record)
        while not self._is_finished():
            self._run_next(runner)
            self._clean_up(runner)
            record = self.records()[-1]
            self.on_trial(record)
            self.progress(self._describe(record))

    def _run_shared(self, shared: SharedStudy, runner: TrialRunner) -> None:
        """Run this worker's trials, then wait for the others', without which no order is known."""
        while not self._is_finished():
            if shared.run_one(runner, self.trials_wanted, self._prepare):
                self._clean_up(runner)
                finished = len(self.finished())
                text = f"{finished} of {self.trials_wanted} trials are finished"
                self.progress(ProgressLine(text, "trial", finished, self.trials_wanted))
            else:
                time.sleep(_POLL_SECONDS)

    def _run_next(self, runner: TrialRunner) -> None:
        self._prepare(len(self.finished()))
        self.study.optimize(runner.run, n_trials=1, catch=(TrialError,))

    def _prepare(self, number: int) -> None:
        """Queue the default parameters as the first trial; seed the sampler of every other one.

        ``number`` is the number of trials so far; the draws depend on it alone.
        """
        if not number and not self.study.get_trials(deepcopy=False, states=(OptunaState.WAITING,)):
            self.study.enqueue_trial(self.search.start())
        self.study.sampler = optuna.samplers.TPESampler(
            seed=int(digest([self.seed, number])[:8], 16),
            n_startup_trials=self.tuning.startup_trials,
        )

    def _clean_up(self, runner: TrialRunner) -> None:
        trials = self.study.get_trials(deepcopy=False)
        finished = [trial for trial in trials if has_result(trial)]
        best = best_trial(self._as_records(finished))
        runner.clean_up(trials, finished[best.number] if best else None)

    def finished(self) -> list[FrozenTrial]:
        """Trials that have a result, oldest first."""
        return [trial for trial in self.study.get_trials(deepcopy=False) if has_result(trial)]

    def records(self) -> tuple[TrialRecord, ...]:
        """The finished trials as plain values."""
        return self._as_records(self.finished())

    def _as_records(self, trials: list[FrozenTrial]) -> tuple[TrialRecord, ...]:
        return tuple(self._as_record(number, trial) for number, trial in enumerate(trials))

    def _as_record(self, number: int, trial: FrozenTrial) -> TrialRecord:
        return TrialRecord(
            number=number,
            state=_STATES[trial.state],
            params=self.search.params(trial.params).model_dump(mode="json"),
            value=trial.value,
            seconds=trial.duration.total_seconds() if trial.duration else 0.0,
            curve=dict(sorted(trial.intermediate_values.items())),
            error=trial.user_attrs.get("error"),
        )

    def _is_finished(self) -> bool:
        records = self.records()
        if len(records) >= self.trials_wanted:
            return True
        limit = self.tuning.timeout_minutes
        spent = sum(record.seconds for record in records)
        return bool(records) and limit is not None and spent >= limit * 60

    def _describe(self, record: TrialRecord) -> ProgressLine:
        best = best_trial(self.records())
        best_value = best.value if best else float("nan")
        outcome = ""
        if record.value is not None:
            outcome = record.error or f"{self.tuning.metric} {record.value:.4f}"
        number = record.number + 1
        text = (
            f"trial {number} of {self.trials_wanted} {record.state}, {outcome}"
            f" in {record.seconds:.0f} s; best {best_value:.4f}"
        )
        return ProgressLine(text, "trial", number, self.trials_wanted, record.value)
