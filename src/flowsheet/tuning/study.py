"""One Optuna study a model: seeded, pruned, and taken up where a kill left it.

The sampler is made anew for every trial from the base seed and the number of finished trials, so an
interrupted trial draws the same parameters again and a resumed study goes the way of an
uninterrupted one. All trials train with the same seed (common random numbers): they differ by their
parameters only.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from flowsheet.config import ModelConfig, TuningConfig
from flowsheet.state.hashing import digest
from flowsheet.tuning.journal import open_database, open_journal
from flowsheet.tuning.records import TrialRecord, TrialState, Tuned, best_of
from flowsheet.tuning.shared import Share, study_name
from flowsheet.tuning.space import Search, resolve
from flowsheet.tuning.trial import Trainer, TrialError, counts
from flowsheet.typing import Floats, Labels
from flowsheet.windows.sequences import Sequences

WARM_UP = 2
"""Steps a trial is given before it can be pruned: first epochs tell little."""

_LOOK_SECONDS = 0.5

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
    work: Path,
    device: str = "cpu",
    threads: int = 1,
    on_trial: Callable[[TrialRecord], None] = lambda record: None,
    progress: Callable[[str], None] = lambda line: None,
    storage: str | None = None,
) -> Tuned:
    """Search the model's parameters for the largest ``score`` on the validation split; where its
    rows are of one class, so that most scores mean nothing, for the smallest log loss, saying so.

    ``work`` survives a kill; called again with the same arguments the search goes on there, and
    comes to the result it would have come to. The caller holds a lock on ``work``. ``on_trial`` is
    told every finished trial of the study in order, those of an earlier call again.

    ``storage`` is the URL of a database instead of the journal in ``work``. Any number of workers
    that share ``work`` may then call this at once, without a lock: they run the trials between
    them, and all return when the last is finished. What is drawn depends on the order in which
    trials end.

    Raises:
        UsageError: the configuration does not fit the model (see
        :func:`flowsheet.tuning.space.resolve`).
        CheckFailed: the model says that it cannot be fitted to this task, the default parameters
            fail, or the score cannot be computed on the validation split.
    """
    search = resolve(kind, config)
    wanted = (config.trials or tuning.trials) if search.ranges else 1
    key = digest(
        {
            **search.describe(),
            "tuning": tuning.model_dump(mode="json", exclude={"name", "trials", "timeout_minutes"}),
            "seed": seed,
        }
    )
    folder = work / key[:16]
    folder.mkdir(parents=True, exist_ok=True)
    study, share = _open(folder, key, storage, tuning)
    trainer = Trainer(search, study, folder, train, valid, seed, device, threads, score, progress)
    run = _Run(study, share, search, tuning, seed, wanted, on_trial, progress)
    run.go(trainer)
    trials = run.records()
    best = best_of(trials)
    assert best is not None  # the first trial has completed, or `go` has raised
    return Tuned(trainer.folder(run.finished()[best.number]), best, trials, key)


def _open(
    folder: Path, key: str, url: str | None, tuning: TuningConfig
) -> tuple[optuna.Study, Share | None]:
    pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
    if tuning.prune:
        pruner = optuna.pruners.MedianPruner(
            n_startup_trials=tuning.startup_trials, n_warmup_steps=WARM_UP
        )
    if url is not None:
        database, name = open_database(url), study_name(folder, key)
        shared = optuna.create_study(
            study_name=name,
            storage=database,
            pruner=pruner,
            direction="maximize",
            load_if_exists=True,
        )
        return shared, Share(shared, database, folder)
    study = optuna.create_study(
        study_name=key,
        storage=open_journal(folder),
        pruner=pruner,
        direction="maximize",
        load_if_exists=True,
    )
    # nobody else works on a journal: a running trial is one that a kill has cut off
    for trial in study.get_trials(deepcopy=False, states=(OptunaState.RUNNING,)):
        study.tell(trial.number, state=OptunaState.FAIL)
    return study, None


@dataclass(frozen=True)
class _Run:
    study: optuna.Study
    share: Share | None
    search: Search
    tuning: TuningConfig
    seed: int
    wanted: int
    on_trial: Callable[[TrialRecord], None]
    progress: Callable[[str], None]

    def go(self, trainer: Trainer) -> None:
        """Run trials until there are enough, or time is up."""
        if done := len(self.finished()):
            self.progress(f"going on after {done} of {self.wanted} trials")
        self._sweep(trainer)
        if self.share:
            self._side_by_side(self.share, trainer)
        for record in self.records():
            self.on_trial(record)
        while not self._enough():
            self._next(trainer)
            self._sweep(trainer)
            record = self.records()[-1]
            self.on_trial(record)
            self.progress(self._line(record))

    def _side_by_side(self, share: Share, trainer: Trainer) -> None:
        """Do this worker's part, and wait for the others': only then are the trials' places known."""
        while not self._enough():
            if share.run_one(trainer, self.wanted, self._prepare):
                self._sweep(trainer)
                self.progress(f"{len(self.finished())} of {self.wanted} trials are finished")
            else:
                time.sleep(_LOOK_SECONDS)

    def _next(self, trainer: Trainer) -> None:
        self._prepare(len(self.finished()))
        self.study.optimize(trainer.run, n_trials=1, catch=(TrialError,))

    def _prepare(self, done: int) -> None:
        """The first trial has the defaults; every later one is drawn from a state that depends on its place alone."""
        if not done and not self.study.get_trials(deepcopy=False, states=(OptunaState.WAITING,)):
            self.study.enqueue_trial(self.search.start())
        self.study.sampler = optuna.samplers.TPESampler(
            seed=int(digest([self.seed, done])[:8], 16), n_startup_trials=self.tuning.startup_trials
        )

    def _sweep(self, trainer: Trainer) -> None:
        trials = self.study.get_trials(deepcopy=False)
        ended = [trial for trial in trials if counts(trial)]
        best = best_of(tuple(self._record(number, trial) for number, trial in enumerate(ended)))
        trainer.sweep(trials, ended[best.number] if best else None)

    def finished(self) -> list[FrozenTrial]:
        """Trials that count, oldest first."""
        return [trial for trial in self.study.get_trials(deepcopy=False) if counts(trial)]

    def records(self) -> tuple[TrialRecord, ...]:
        """The finished trials as plain values."""
        return tuple(self._record(number, trial) for number, trial in enumerate(self.finished()))

    def _record(self, number: int, trial: FrozenTrial) -> TrialRecord:
        return TrialRecord(
            number=number,
            state=_STATES[trial.state],
            params=self.search.params(trial.params).model_dump(mode="json"),
            value=trial.value,
            seconds=trial.duration.total_seconds() if trial.duration else 0.0,
            curve=dict(sorted(trial.intermediate_values.items())),
            error=trial.user_attrs.get("error"),
        )

    def _enough(self) -> bool:
        records = self.records()
        limit = self.tuning.timeout_minutes
        spent = sum(record.seconds for record in records)
        return len(records) >= self.wanted or bool(
            records and limit is not None and spent >= limit * 60
        )

    def _line(self, record: TrialRecord) -> str:
        best = best_of(self.records())
        outcome = (
            record.error or f"{self.tuning.metric} {record.value:.4f}"
            if record.value is not None
            else ""
        )
        return (
            f"trial {record.number + 1} of {self.wanted} {record.state}, {outcome}"
            f" in {record.seconds:.0f} s; best {best.value if best else float('nan'):.4f}"
        )
