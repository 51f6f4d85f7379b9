"""One trial: draw parameters, fit a model, compute its score on the validation split."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import OptunaError
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from flowsheet.config import Choice, IntRange, Range
from flowsheet.errors import CheckFailed, FlowsheetError, GpuMemoryError
from flowsheet.models.base import Context, Model, Pruned
from flowsheet.numerics import log_loss
from flowsheet.state.hashing import digest, file_digest
from flowsheet.state.publish import publish
from flowsheet.tuning.left_out import LeftOutGroup, ScoreFunction
from flowsheet.tuning.partial_data import Rung, select_part
from flowsheet.tuning.pruning import is_interrupted
from flowsheet.tuning.space import Search
from flowsheet.typing import Floats, Labels
from flowsheet.windows.sequences import Sequences

FitFunction = Callable[[Model, Sequences, Sequences, Context], Model]
"""Fits a model to training stays, with validation stays; returns the fitted one."""
_MODEL_DIGEST = "model_sha256"
"""Attribute of a complete trial: of the files of its fitted model."""


class TrialError(Exception):
    """The model failed with the drawn parameters."""


def fit_here(model: Model, train: Sequences, valid: Sequences, context: Context) -> Model:
    """Fit a model in this process.

    Args:
        model: The model.
        train: Training stays.
        valid: Validation stays.
        context: The circumstances of the fit.
    """
    model.fit(train, valid, context)
    return model


def has_result(trial: FrozenTrial) -> bool:
    """Whether a trial has ended and was not interrupted.

    A failed trial has a result if the model's error is recorded.
    """
    return trial.state.is_finished() and not is_interrupted(trial)


@dataclass
class ScoreReporter:
    """Reports the scores of a trial to the pruner, each step once."""

    trial: optuna.Trial
    reported: set[int] = field(default_factory=set)

    def report(self, step: int, value: float) -> None:
        """Report a score.

        Raises:
            Pruned: the trial ends here.
        """
        if step in self.reported:
            return
        self.reported.add(step)
        self.trial.report(value, step)
        if self.trial.should_prune():
            raise Pruned


@dataclass(frozen=True)
class TrialRunner:
    """Runs trials of one study.

    Fitted models are in ``folder/trials``, checkpoints of fits in ``folder/checkpoints``.
    """

    search: Search
    study: optuna.Study
    folder: Path
    train: Sequences
    valid: Sequences
    seed: int
    device: str
    threads: int
    score: Callable[[Labels, Floats], float]
    progress: Callable[[str], None]
    members: Mapping[str, Path] = field(default_factory=dict)
    """By name the packages of the models that this one is made of."""
    rungs: Sequence[Rung] = ()
    """The parts of the training data that a trial is fitted to before all of them."""
    left_out: Sequence[LeftOutGroup] = ()
    """Groups by whose scores trials are compared; none: by the validation split."""
    fit: FitFunction = fit_here

    def run(
        self, trial: optuna.Trial, on_start: Callable[[optuna.Trial], None] = lambda trial: None
    ) -> float:
        """The objective; ``on_start`` is called when the parameters have been drawn.

        Raises:
            TrialError: the model failed; the reason is recorded in the trial.
            CheckFailed: the model failed with its default parameters.
            GpuMemoryError: the GPU has not even the memory for these.
            FlowsheetError, OSError, MemoryError, OptunaError, SQLAlchemyError: the parameters are
                not the cause; the trial is repeated when the study is resumed.
        """
        drawn = {name: _suggest(trial, name, space) for name, space in self.search.ranges.items()}
        on_start(trial)
        if (duplicate := self._duplicate(drawn)) is not None:
            return _copy_result(trial, duplicate)
        try:
            return self._fit(trial, drawn)
        except Pruned:
            raise optuna.TrialPruned from None
        except GpuMemoryError as error:
            if self._is_first_attempt(drawn):
                raise
            raise self._failure(trial, drawn, error) from error
        except (FlowsheetError, OSError, MemoryError, OptunaError, SQLAlchemyError):
            raise
        except Exception as error:
            raise self._failure(trial, drawn, error) from error

    def model_folder(self, trial: FrozenTrial | optuna.Trial) -> Path:
        """Where the fitted model of a trial is saved."""
        return self.folder / "trials" / str(trial.number)

    def clean_up(self, trials: Sequence[FrozenTrial], best: FrozenTrial | None) -> None:
        """Remove the files of finished trials, except the best one's fitted model.

        Args:
            trials: The trials that are cleaned up; not those that other workers have finished
                since.
            best: The best of them.
        """
        running = [trial.params for trial in trials if not trial.state.is_finished()]
        for trial in trials:
            if not trial.state.is_finished():
                continue
            if has_result(trial) and trial.params not in running:
                shutil.rmtree(self._checkpoints(trial.params), ignore_errors=True)
            for incomplete in (self.folder / "trials").glob(f".{trial.number}.*"):
                shutil.rmtree(incomplete, ignore_errors=True)
            if best is None or trial.number != best.number:
                shutil.rmtree(self.model_folder(trial), ignore_errors=True)

    def _checkpoints(self, drawn: dict[str, Any]) -> Path:
        return self.folder / "checkpoints" / digest(drawn)[:16]

    def _failure(self, trial: optuna.Trial, drawn: dict[str, Any], error: Exception) -> Exception:
        reason = f"{type(error).__name__}: {error}"
        if not self._is_first_attempt(drawn):
            trial.set_user_attr("error", reason)
            return TrialError(reason)
        return CheckFailed(
            f"{self.search.kind} failed with its default parameters: {reason}",
            todo="choose parameters that work (models.<name>.params), or leave the model out",
        )

    def _is_first_attempt(self, drawn: dict[str, Any]) -> bool:
        """Whether these are the default parameters, and no trial has worked so far."""
        return drawn == self.search.start() and not self._trials(TrialState.COMPLETE)

    def _fit(self, trial: optuna.Trial, drawn: dict[str, Any]) -> float:
        reporter = self._score_reporter(trial, drawn)
        for rung in self.rungs:
            self._fit_rung(rung, drawn, reporter)
        model = self._fit_model(drawn, self.train, None if self.rungs else reporter)
        value = self._validate(model)
        if self.left_out:
            value = self._score_left_out(trial, drawn)
        with publish(self.model_folder(trial)) as folder:
            model.save(folder)
        trial.set_user_attr(_MODEL_DIGEST, _digest_files(self.model_folder(trial)))
        return value

    def _fit_rung(self, rung: Rung, drawn: dict[str, Any], reporter: ScoreReporter) -> None:
        """Fit the model to a part of the training data, and report its score."""
        if rung.step in reporter.reported:
            return
        part = select_part(self.train, rung.share, self.seed)
        if part is not None:
            name = f"share-{rung.share:g}"
            model = self._fit_model(drawn, part, None, name=name)
            reporter.report(rung.step, self._validate(model))

    def _score_left_out(self, trial: optuna.Trial, drawn: dict[str, Any]) -> float:
        """The mean of the scores on groups that the model is fitted without."""
        scores: dict[str, float] = {}
        for i, group in enumerate(self.left_out):
            parts = group.load()
            name = f"without-{i}"
            model = self._fit_model(drawn, parts.train, None, name=name, valid=parts.valid)
            scores[group.name] = self._compute_score(model, parts.held_out, parts.score)
            self.progress(f"without {group.name}: {scores[group.name]:.4f} on these subjects")
        trial.set_user_attr("left_out", scores)
        return float(np.mean(list(scores.values())))

    def _fit_model(
        self,
        drawn: dict[str, Any],
        train: Sequences,
        reporter: ScoreReporter | None,
        *,
        name: str = "all",
        valid: Sequences | None = None,
    ) -> Model:
        """The model with these parameters, fitted; epochs are reported where that is asked.

        Args:
            drawn: the drawn parameters.
            train: the training stays, or a part of them.
            reporter: receives the scores of epochs.
            name: of the folder of checkpoints.
            valid: a part of the validation stays, which the monitored metric is not made for;
                None: all of them.
        """
        checkpoints = self._checkpoints(drawn) / name
        checkpoints.mkdir(parents=True, exist_ok=True)
        model = self.search.model(self.search.params(drawn))
        context = Context(
            seed=self.seed,
            device=self.device,
            threads=self.threads,
            score=self.score if valid is None else None,
            progress=self.progress,
            members=self.members,
            checkpoints=checkpoints,
        )
        if reporter:
            context = replace(context, report_score=reporter.report)
        return self.fit(model, train, self.valid if valid is None else valid, context)

    def is_model_intact(self, trial: FrozenTrial) -> bool:
        """Whether the fitted model of a trial is as it was saved."""
        folder = self.model_folder(trial)
        return bool(_digest_files(folder) == trial.user_attrs.get(_MODEL_DIGEST))

    def _validate(self, model: Model) -> float:
        """The monitored score, or minus log loss where the validation rows are of one class."""
        return self._compute_score(model, self.valid, self.score)

    def _compute_score(self, model: Model, stays: Sequences, score: ScoreFunction) -> float:
        risk = model.predict_proba(stays)
        if not np.isfinite(risk).all():
            not_finite = int((~np.isfinite(risk)).sum())
            raise ValueError(f"{not_finite} of {len(risk)} predictions are not finite")
        y, p = stays.y[stays.scored], risk[stays.scored]
        events, rows = int(y.sum()), len(y)
        if not 0 < events < rows:
            self.progress(
                f"warning: {events} events in {rows} validation rows; "
                "minus log loss replaces the metric"
            )
            return -log_loss(y, p)
        value = float(score(y, p))
        if np.isnan(value):
            raise CheckFailed(
                "the monitored metric cannot be computed on the validation split",
                where=f"{events} events in {rows} scored rows",
                todo="use more subjects for validation (evaluation.validation), or another metric "
                "(tuning.metric)",
            )
        return value

    def _score_reporter(self, trial: optuna.Trial, drawn: dict[str, Any]) -> ScoreReporter:
        """Reports scores to the pruner.

        A fit that resumes from a checkpoint does not report its earlier epochs again. The reports
        of the interrupted trials are therefore copied first, so that pruning decides as without
        the interruption.
        """
        earlier: dict[int, float] = {}
        for interrupted in self._trials(TrialState.FAIL, drawn):
            earlier |= interrupted.intermediate_values
        reporter = ScoreReporter(trial)
        for step, value in sorted(earlier.items()):
            reporter.report(step, value)
        return reporter

    def _duplicate(self, drawn: dict[str, Any]) -> FrozenTrial | None:
        """A complete trial with the same parameters, hence with the same result."""
        return next(iter(self._trials(TrialState.COMPLETE, drawn)), None)

    def _trials(self, state: TrialState, drawn: dict[str, Any] | None = None) -> list[FrozenTrial]:
        """The trials in that state, with those parameters if they are given."""
        trials = self.study.get_trials(deepcopy=False, states=(state,))
        return [trial for trial in trials if drawn is None or trial.params == drawn]


def _digest_files(folder: Path) -> str:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return digest({str(file.relative_to(folder)): file_digest(file) for file in files})


def _suggest(trial: optuna.Trial, name: str, space: Range) -> Any:
    if isinstance(space, Choice):
        return trial.suggest_categorical(name, space.of)
    if isinstance(space, IntRange):
        return trial.suggest_int(name, space.low, space.high, step=space.step, log=space.log)
    return trial.suggest_float(name, space.low, space.high, log=space.log)


def _copy_result(trial: optuna.Trial, duplicate: FrozenTrial) -> float:
    for step, value in sorted(duplicate.intermediate_values.items()):
        trial.report(value, step)
    assert duplicate.value is not None
    return duplicate.value
