"""The value of every metric for every model and subset: overall, in every resample and fold."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from flowsheet.config import CLOCK, FLOOR_MODELS, EvaluationConfig, Protocol, TaskConfig
from flowsheet.evaluation.bootstrap import ALL_RESAMPLES, ResamplePart, bootstrap
from flowsheet.evaluation.calibration_bins import resample_calibration
from flowsheet.evaluation.draws import CALIBRATION, METRIC, DrawKey, Draws
from flowsheet.evaluation.folds import FoldPredictions, ModelPredictions
from flowsheet.evaluation.metrics import Metric, ScoredRows, select_metrics
from flowsheet.evaluation.subsets import STAYS, Subset, score_models
from flowsheet.typing import Floats
from flowsheet.windows.protocol import FoldId
from flowsheet.windows.sequences import Sequences

Key = tuple[str, str]
"""(subset, model)."""

SUBGROUP_METRICS = (
    *("auroc", "auprc", "brier", "calibration_intercept", "normalised_utility"),
    *("alert_share", "alert_ppv"),
)
"""Computed for subgroups, with the metric that ranks the leaderboard."""


@dataclass(frozen=True)
class FoldScores:
    """The value of every metric on the held-out subjects of one fold."""

    id: FoldId
    n_test_subjects: int
    n_training_subjects: int
    values: Mapping[tuple[str, str, str], float]  # by (subset, model, metric)
    counts: Mapping[str, tuple[int, int, int]]  # by subset: rows, events, subjects


@dataclass(frozen=True)
class EvaluationResults:
    """Everything that was computed from the predictions of some models."""

    scored: Mapping[Key, tuple[ScoredRows, ...]]
    """One entry a repetition; one without cross-validation. Rows and labels are equal in all."""
    subsets: Sequence[Subset]
    metrics: Sequence[Metric]
    config: EvaluationConfig
    draws: Mapping[tuple[Key, str], Floats] = field(default_factory=dict)
    """By (key, metric): the mean over repetitions in each resample, shape (B,)."""
    calibration: Mapping[Key, Sequence[Floats]] = field(default_factory=dict)
    """The frequency of each bin of a calibration curve in each resample, shape (B,)."""
    folds: Sequence[FoldScores] = ()

    @classmethod
    def from_predictions(
        cls,
        sequences: Sequences,
        repetitions: Sequence[Mapping[str, ModelPredictions]],
        subsets: Sequence[Subset],
        config: EvaluationConfig,
        task: TaskConfig | None,
    ) -> EvaluationResults:
        """The scored rows of every subset and model; nothing is resampled yet.

        Args:
            sequences: the evaluated stays, N rows.
            repetitions: for each repetition the predictions of all N rows by model.
            subsets: the subsets of rows to evaluate.
            config: the metrics, resamples, confidence and least number of events.
            task: with it stays have lead times, and rows the PhysioNet 2019 utility where defined.
        """
        scored: dict[Key, tuple[ScoredRows, ...]] = {}
        for subset in subsets:
            by_repetition = [
                score_models(sequences, subset, predictions, config, task)
                for predictions in repetitions
            ]
            for model in sorted(repetitions[0]):
                scored[subset.name, model] = tuple(models[model] for models in by_repetition)
        metrics = select_metrics(config.operating_points, config.metric)
        return cls(scored, subsets, metrics, config)

    def with_folds(
        self,
        sequences: Sequences,
        folds: Sequence[FoldPredictions],
        repetitions: Sequence[Mapping[str, ModelPredictions]],
        task: TaskConfig | None,
    ) -> EvaluationResults:
        """The same with every metric in each of the folds that the repetitions were pooled from.

        Args:
            sequences: the evaluated stays, N rows.
            folds: of all repetitions.
            repetitions: for each repetition the predictions of all N rows by model.
            task: as in :meth:`from_predictions`.
        """
        repeats = sorted({fold.id.repeat for fold in folds})
        scores = [
            self._score_fold(sequences, fold, repetitions[repeats.index(fold.id.repeat)], task)
            for fold in folds
        ]
        return replace(self, folds=scores)

    def list_metrics(self, subset: Subset, model: str) -> list[Metric]:
        """The metrics that are computed for a model in a subset."""
        metrics = self._subgroup_metrics if subset.is_subgroup else self.metrics
        scored = self.scored[subset.name, model][0]
        return [metric for metric in metrics if metric.is_applicable(scored)]

    @property
    def _subgroup_metrics(self) -> list[Metric]:
        names = {*SUBGROUP_METRICS, self.config.metric}
        return [metric for metric in self.metrics if metric.name in names]

    @property
    def n_random_folds(self) -> int:
        """Folds that are random draws, whose variance tests a difference; sites are not."""
        return 0 if self.config.protocol is Protocol.site else len(self.folds)

    def has_curves(self, subset: Subset, model: str) -> bool:
        """Whether a model has curves in a subset.

        Of the floor only the clock has them: the others would hide the models.
        """
        is_shown = model == CLOCK or model not in FLOOR_MODELS
        scored = self.scored[subset.name, model][0]
        return is_shown and not subset.is_subgroup and not scored.reason_not_estimable

    def resample(
        self, seed: int, models: Collection[str] | None = None, part: ResamplePart = ALL_RESAMPLES
    ) -> Draws:
        """Every metric and every calibration curve in the resamples.

        Args:
            seed: of the resamples.
            models: whose values are wanted; None: of all.
            part: the resamples that are wanted.
        """
        chosen = self.models if models is None else models
        return {
            **dict(self._resample_metrics(seed, chosen, part)),
            **dict(self._resample_calibration(seed, chosen, part)),
        }

    def with_draws(self, draws: Draws) -> EvaluationResults:
        """The same with the values of all resamples."""
        metrics: dict[tuple[Key, str], list[Floats]] = {}
        calibration: dict[Key, list[Floats]] = {}
        for key, values in draws.items():
            scored = key.subset, key.model
            if key.kind == METRIC:
                metrics.setdefault((scored, key.name), []).append(values)
            else:
                calibration.setdefault(scored, []).append(values)
        means = {key: _mean_draws(repetitions) for key, repetitions in metrics.items()}
        return replace(self, draws=means, calibration=calibration)

    def _resample_metrics(
        self, seed: int, models: Collection[str], part: ResamplePart
    ) -> Iterator[tuple[DrawKey, Floats]]:
        subgroups = {subset.name for subset in self.subsets if subset.is_subgroup}
        repetitions = {
            (subset, model, repeat): rows
            for (subset, model), scored in self.scored.items()
            for repeat, rows in enumerate(scored)
            if model in models
        }
        for metrics, is_subgroup in ((self.metrics, False), (self._subgroup_metrics, True)):
            chosen = {
                entry: rows
                for entry, rows in repetitions.items()
                if (entry[0] in subgroups) == is_subgroup
            }
            values = bootstrap(chosen, metrics, self.config.resamples, seed, part)
            for (entry, metric), draws in values.items():
                yield DrawKey(METRIC, *entry, metric), draws

    def _resample_calibration(
        self, seed: int, models: Collection[str], part: ResamplePart
    ) -> Iterator[tuple[DrawKey, Floats]]:
        """Of the first repetition, without stays: the highest of many probabilities is none."""
        for subset in self.subsets:
            for model in models:
                scored = self.scored[subset.name, model][0]
                if scored.is_per_stay or not self.has_curves(subset, model):
                    continue
                bins = resample_calibration(scored, self.config.resamples, seed, part)
                for number, draws in enumerate(bins):
                    yield DrawKey(CALIBRATION, subset.name, model, 0, str(number)), draws

    def _score_fold(
        self,
        sequences: Sequences,
        fold: FoldPredictions,
        predictions: Mapping[str, ModelPredictions],
        task: TaskConfig | None,
    ) -> FoldScores:
        """Every metric on the held-out subjects of one fold, without subgroups."""
        rows = fold.find_rows(sequences)
        values: dict[tuple[str, str, str], float] = {}
        counts: dict[str, tuple[int, int, int]] = {}
        for subset in self.subsets:
            if subset.is_subgroup:
                continue
            held_out = subset.intersect(rows)
            by_model = score_models(sequences, held_out, predictions, self.config, task)
            for model, scored in by_model.items():
                for metric in self.list_metrics(subset, model):
                    values[subset.name, model, metric.name] = metric(scored)
                counts[subset.name] = scored.counts
        return FoldScores(fold.id, len(fold.subjects), fold.n_training_subjects, values, counts)

    @property
    def test_to_training(self) -> float:
        """Test subjects for each training subject, over all folds."""
        n_test = sum(fold.n_test_subjects for fold in self.folds)
        n_training = sum(fold.n_training_subjects for fold in self.folds)
        return n_test / max(1, n_training)

    @cached_property
    def models(self) -> list[str]:
        """The models' names, sorted."""
        return sorted({model for _, model in self.scored})

    def compute_mean(self, subset: str, model: str, metric: Metric) -> float:
        """The value of a metric, the mean over repetitions."""
        return float(np.mean([compute_cached(metric, rows) for rows in self.scored[subset, model]]))

    def stays(self, model: str) -> Iterator[ScoredRows]:
        """The scored stays of each repetition."""
        yield from self.scored.get((STAYS, model), ())


def _mean_draws(repetitions: Sequence[Floats]) -> Floats:
    return repetitions[0] if len(repetitions) == 1 else np.mean(repetitions, axis=0)


def compute_cached(metric: Metric, rows: ScoredRows) -> float:
    """The value of a metric, computed once."""
    return rows.cached(f"value of {metric.name}", lambda: metric(rows))
