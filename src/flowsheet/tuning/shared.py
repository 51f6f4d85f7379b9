"""One study, several workers: who runs what, and what becomes of a killed worker's trial.

The workers share a database and a folder. A trial is begun while holding a lock in the folder, so
that never more are begun than are wanted and none is drawn without knowledge of the others; it is
then run side by side.
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
from flowsheet.tuning.trial import Trainer, TrialError, counts

ATTEMPTS = 3
"""How often a trial whose worker dies is begun: one that kills its workers must not do so for ever."""
_BEGUN, _REPEATS = "begun", "repeats"


def study_name(work: Path, key: str) -> str:
    """The name of the study that belongs to a work folder: the database outlives the folder, and
    what it knows of another folder's study is of no use without that folder's fitted models."""
    with exclusive_lock(work / "gate.lock"):
        file = work / "study.name"
        if not file.exists():
            file.write_text(f"{key[:16]}-{uuid.uuid4().hex[:16]}")
        return file.read_text()


@dataclass(frozen=True)
class Share:
    """A worker's part in a study."""

    study: optuna.Study
    storage: RDBStorage
    work: Path
    """A folder that all workers of the study see."""

    def run_one(self, trainer: Trainer, wanted: int, prepare: Callable[[int], None]) -> bool:
        """Begin a trial, if one is left to begin, and run it; False: all are finished or in others'
        hands.

        ``prepare`` is called with the number of trials so far before the next is drawn.

        Raises:
            CheckFailed, FlowsheetError, OSError: as :meth:`flowsheet.tuning.trial.Trainer.run`.
        """
        mine: list[optuna.Trial] = []
        with contextlib.ExitStack() as gate:
            gate.enter_context(exclusive_lock(self.work / "gate.lock"))
            self._mend()
            trials = self.study.get_trials(deepcopy=False)
            if (
                sum(counts(trial) or trial.state is TrialState.RUNNING for trial in trials)
                >= wanted
            ):
                return False
            prepare(len(trials))

            def begun(trial: optuna.Trial) -> None:
                self.storage.record_heartbeat(trial._trial_id)
                trial.set_user_attr(_BEGUN, True)
                mine.append(trial)
                gate.close()

            try:
                self.study.optimize(
                    lambda trial: trainer.run(trial, begun), n_trials=1, catch=(TrialError,)
                )
            except Exception:
                if not (mine and self._taken(mine[0])):
                    raise
        return True

    def _mend(self) -> None:
        """Put dead workers' trials back; to be called while holding the lock.

        A running trial that was never begun has lost its worker while that held the lock.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            optuna.storages.fail_stale_trials(self.study)
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if _BEGUN not in trial.user_attrs:
                self.study.tell(trial.number, state=TrialState.FAIL)
        trials = self.study.get_trials(deepcopy=False)
        repeated = {trial.user_attrs.get(_REPEATS) for trial in trials}
        for trial in trials:
            cut_off = trial.state is TrialState.FAIL and not counts(trial)
            if cut_off and trial.number not in repeated and _attempts(trial, trials) < ATTEMPTS:
                drawn = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
                self.study.enqueue_trial(drawn, user_attrs={_REPEATS: trial.number})

    def _taken(self, trial: optuna.Trial) -> bool:
        """Whether the others gave the trial up while this worker was at it, such as during a long suspension."""
        return any(
            t.user_attrs.get(_REPEATS) == trial.number
            for t in self.study.get_trials(deepcopy=False)
        )


def _attempts(trial: FrozenTrial, trials: list[FrozenTrial]) -> int:
    """How often a trial has been begun, earlier ones that it repeats included."""
    former = trial.user_attrs.get(_REPEATS)
    return 1 + (_attempts(trials[former], trials) if former is not None else 0)
