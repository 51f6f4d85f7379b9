"""One study, several workers: which worker runs which trial, and retries after a worker is killed.

The workers share a database and a folder. A worker locks the folder while it starts a trial, so
that no more trials are started than requested and each is drawn with knowledge of all others. The
trials then run in parallel.
"""

from __future__ import annotations

import contextlib
import uuid
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from flowsheet.state.locks import exclusive_lock
from flowsheet.tuning.trial import TrialError, TrialRunner, has_result

ATTEMPTS = 3
"""How often a trial is started if its workers die: the trial itself may be what kills them."""
_STARTED, _RETRY_OF = "started", "retry_of"


def study_name(folder: Path, key: str) -> str:
    """The name of the study of a work folder.

    It is unique to the folder: the database outlives the folder, and a study is useless without the
    fitted models in its folder.
    """
    with exclusive_lock(folder / "start.lock"):
        file = folder / "study.name"
        if not file.exists():
            file.write_text(f"{key[:16]}-{uuid.uuid4().hex[:16]}", encoding="utf-8")
        return file.read_text(encoding="utf-8")


@dataclass(frozen=True)
class SharedStudy:
    """A study in the database, from the view of one worker."""

    study: optuna.Study
    storage: RDBStorage
    folder: Path
    """A folder that all workers of the study share."""

    def run_one(
        self, runner: TrialRunner, trials_wanted: int, prepare: Callable[[int], None]
    ) -> bool:
        """Start a trial, if there are fewer than wanted, and run it.

        Args:
            runner: Runs the trial.
            trials_wanted: The total number of trials of all workers.
            prepare: Called with the number of trials so far before the next is drawn.

        Returns:
            False if all trials are finished or run by other workers.

        Raises:
            CheckFailed, FlowsheetError, OSError: as
                :meth:`flowsheet.tuning.trial.TrialRunner.run`.
        """
        started: list[optuna.Trial] = []
        with contextlib.ExitStack() as lock:
            lock.enter_context(exclusive_lock(self.folder / "start.lock"))
            self._requeue_interrupted()
            trials = self.study.get_trials(deepcopy=False)
            active = [t for t in trials if has_result(t) or t.state is TrialState.RUNNING]
            if len(active) >= trials_wanted:
                return False
            prepare(len(trials))

            def on_start(trial: optuna.Trial) -> None:
                self.storage.record_heartbeat(trial._trial_id)
                trial.set_user_attr(_STARTED, True)
                started.append(trial)
                lock.close()

            try:
                self.study.optimize(
                    lambda trial: runner.run(trial, on_start), n_trials=1, catch=(TrialError,)
                )
            except Exception:
                if not (started and self._was_requeued(started[0])):
                    raise
        return True

    def _requeue_interrupted(self) -> None:
        """Queue the trials of dead workers again; to be called while holding the lock.

        A running trial that has not been marked as started lost its worker before that.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            optuna.storages.fail_stale_trials(self.study)
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if _STARTED not in trial.user_attrs:
                self.study.tell(trial.number, state=TrialState.FAIL)
        trials = self.study.get_trials(deepcopy=False)
        retried = {trial.user_attrs.get(_RETRY_OF) for trial in trials}
        for trial in trials:
            is_interrupted = trial.state is TrialState.FAIL and not has_result(trial)
            is_retried = trial.number in retried
            if is_interrupted and not is_retried and _attempts(trial, trials) < ATTEMPTS:
                drawn = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
                self.study.enqueue_trial(drawn, user_attrs={_RETRY_OF: trial.number})

    def _was_requeued(self, trial: optuna.Trial) -> bool:
        """Whether another worker took this one for dead, such as after a long suspension."""
        trials = self.study.get_trials(deepcopy=False)
        return any(other.user_attrs.get(_RETRY_OF) == trial.number for other in trials)


def _attempts(trial: FrozenTrial, trials: list[FrozenTrial]) -> int:
    """How often a trial has been started, including those that it retries."""
    retried = trial.user_attrs.get(_RETRY_OF)
    return 1 + (_attempts(trials[retried], trials) if retried is not None else 0)
