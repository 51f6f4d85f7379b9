"""One trial: parameters drawn, a model fitted, its score on the validation split."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import OptunaError
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from flowsheet.config import Choice, IntRange, Range
from flowsheet.errors import CheckFailed, FlowsheetError
from flowsheet.models.base import Context, Model, Pruned
from flowsheet.numerics import log_loss
from flowsheet.state.hashing import digest
from flowsheet.state.publish import publish
from flowsheet.tuning.space import Search
from flowsheet.typing import Floats, Labels
from flowsheet.windows.sequences import Sequences


class TrialError(Exception):
    """The model failed with the drawn parameters."""


def counts(trial: FrozenTrial) -> bool:
    """Whether a trial has ended by itself: it failed only when the model said why, else it was interrupted."""
    return trial.state.is_finished() and (
        trial.state is not TrialState.FAIL or "error" in trial.user_attrs
    )


@dataclass(frozen=True)
class Trainer:
    """Runs trials of one study; fitted models are in ``work/trials``, unfinished fits in ``work/checkpoints``."""

    search: Search
    study: optuna.Study
    work: Path
    train: Sequences
    valid: Sequences
    seed: int
    device: str
    threads: int
    score: Callable[[Labels, Floats], float]
    progress: Callable[[str], None]

    def run(
        self, trial: optuna.Trial, begun: Callable[[optuna.Trial], None] = lambda trial: None
    ) -> float:
        """The objective; ``begun`` is called when the parameters have been drawn.

        Raises:
            TrialError: the model failed; the reason is written on the trial.
            CheckFailed: the model failed with its default parameters. FlowsheetError, OSError,
            MemoryError, OptunaError, SQLAlchemyError: not the parameters' fault; the trial is
            repeated next time.
        """
        drawn = {name: _suggest(trial, name, space) for name, space in self.search.ranges.items()}
        begun(trial)
        if (twin := self._twin(drawn)) is not None:
            return _repeat(trial, twin)
        try:
            return self._fit(trial, drawn)
        except Pruned:
            raise optuna.TrialPruned from None
        except (FlowsheetError, OSError, MemoryError, OptunaError, SQLAlchemyError):
            raise
        except Exception as error:
            raise self._failure(trial, drawn, error) from error

    def folder(self, trial: FrozenTrial | optuna.Trial) -> Path:
        """Where the fitted model of a trial is kept."""
        return self.work / "trials" / str(trial.number)

    def sweep(self, trials: Sequence[FrozenTrial], best: FrozenTrial | None) -> None:
        """Remove what finished trials have left behind, but for the best one's fitted model.

        ``trials`` are those among which ``best`` is the best: one that others have finished since
        stays.
        """
        running = [trial.params for trial in trials if not trial.state.is_finished()]
        for trial in trials:
            if not trial.state.is_finished():
                continue
            if counts(trial) and trial.params not in running:
                shutil.rmtree(self._checkpoints(trial.params), ignore_errors=True)
            for half in (self.work / "trials").glob(f".{trial.number}.*"):
                shutil.rmtree(half, ignore_errors=True)
            if best is None or trial.number != best.number:
                shutil.rmtree(self.folder(trial), ignore_errors=True)

    def _checkpoints(self, drawn: dict[str, Any]) -> Path:
        return self.work / "checkpoints" / digest(drawn)[:16]

    def _failure(self, trial: optuna.Trial, drawn: dict[str, Any], error: Exception) -> Exception:
        reason = f"{type(error).__name__}: {error}"
        if drawn != self.search.start() or self.study.get_trials(
            deepcopy=False, states=(TrialState.COMPLETE,)
        ):
            trial.set_user_attr("error", reason)
            return TrialError(reason)
        return CheckFailed(
            f"{self.search.kind} failed with its default parameters: {reason}",
            todo="give it parameters that work (models.<name>.params), or leave the model out",
        )

    def _fit(self, trial: optuna.Trial, drawn: dict[str, Any]) -> float:
        checkpoints = self._checkpoints(drawn)
        checkpoints.mkdir(parents=True, exist_ok=True)
        model = self.search.model(self.search.params(drawn))
        context = Context(
            seed=self.seed,
            device=self.device,
            threads=self.threads,
            score=self.score,
            report_score=self._reporter(trial, drawn),
            progress=self.progress,
            checkpoints=checkpoints,
        )
        model.fit(self.train, self.valid, context)
        value = self._value(model)
        with publish(self.folder(trial)) as folder:
            model.save(folder)
        return value

    def _value(self, model: Model) -> float:
        risk = model.predict_proba(self.valid)
        if not np.isfinite(risk).all():
            raise ValueError(
                f"{int((~np.isfinite(risk)).sum())} of {len(risk)} predictions are not finite"
            )
        y, p = self.valid.y[self.valid.scored], risk[self.valid.scored]
        events, rows = int(y.sum()), len(y)
        if not 0 < events < rows:
            self.progress(
                f"warning: {events} events in {rows} validation rows; minus log loss stands in for the metric"
            )
            return -log_loss(y, p)
        value = float(self.score(y, p))
        if np.isnan(value):
            raise CheckFailed(
                "the monitored metric cannot be computed on the validation split",
                f"{events} events in {rows} scored rows",
                todo="hold out more subjects (evaluation.validation), or choose another metric (tuning.metric)",
            )
        return value

    def _reporter(self, trial: optuna.Trial, drawn: dict[str, Any]) -> Callable[[int, float], None]:
        """Hand reports on to the pruner.

        A fit that goes on from a checkpoint is silent about its earlier epochs: those are told
        first, as the interrupted trial had told them, so that pruning decides as if there had been
        no interruption.
        """
        told: set[int] = set()

        def report(step: int, value: float) -> None:
            if step in told:
                return
            told.add(step)
            trial.report(value, step)
            if trial.should_prune():
                raise Pruned

        earlier: dict[int, float] = {}
        for interrupted in self._same(drawn, TrialState.FAIL):
            earlier |= interrupted.intermediate_values
        for step, value in sorted(earlier.items()):
            report(step, value)
        return report

    def _twin(self, drawn: dict[str, Any]) -> FrozenTrial | None:
        """A complete trial with the same parameters; with the same seed it would come out the same."""
        return next(iter(self._same(drawn, TrialState.COMPLETE)), None)

    def _same(self, drawn: dict[str, Any], state: TrialState) -> list[FrozenTrial]:
        return [
            t for t in self.study.get_trials(deepcopy=False, states=(state,)) if t.params == drawn
        ]


def _suggest(trial: optuna.Trial, name: str, space: Range) -> Any:
    if isinstance(space, Choice):
        return trial.suggest_categorical(name, space.of)
    if isinstance(space, IntRange):
        return trial.suggest_int(name, space.low, space.high, step=space.step, log=space.log)
    return trial.suggest_float(name, space.low, space.high, log=space.log)


def _repeat(trial: optuna.Trial, twin: FrozenTrial) -> float:
    for step, value in sorted(twin.intermediate_values.items()):
        trial.report(value, step)
    assert twin.value is not None
    return twin.value
