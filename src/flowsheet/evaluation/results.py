"""The value of every metric for every model and subset: overall, in every resample and fold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from flowsheet.config import EvaluationConfig, Protocol, TaskConfig
from flowsheet.evaluation.bootstrap import bootstrap
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
    draws: Mapping[tuple[Key, str], Floats]
    """By (key, metric): the mean over repetitions in each resample, shape (B,)."""
    folds: Sequence[FoldScores] = ()

    @classmethod
    def from_predictions(
        cls,
        sequences: Sequences,
        repetitions: Sequence[Mapping[str, ModelPredictions]],
        subsets: Sequence[Subset],
        config: EvaluationConfig,
        *,
        seed: int,
        task: TaskConfig | None,
        folds: Sequence[FoldPredictions] = (),
    ) -> EvaluationResults:
        """Compute every metric, its resamples and its values by fold.

        Args:
            sequences: the evaluated stays, N rows.
            repetitions: for each repetition the predictions of all N rows by model.
            subsets: the subsets of rows to evaluate.
            config: the metrics, resamples, confidence and least number of events.
            seed: of the resamples.
            task: with it stays have lead times, and rows the PhysioNet 2019 utility where defined.
            folds: the folds that the repetitions were pooled from; none without cross-validation.
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
        results = cls(scored, subsets, metrics, config, draws={})
        repeats = sorted({fold.id.repeat for fold in folds})
        fold_scores = [
            results._score_fold(sequences, fold, repetitions[repeats.index(fold.id.repeat)], task)
            for fold in folds
        ]
        return replace(results, draws=results._resample(seed), folds=fold_scores)

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

    def _resample(self, seed: int) -> dict[tuple[Key, str], Floats]:
        """Every metric in every resample, averaged over repetitions."""
        subgroups = {subset.name for subset in self.subsets if subset.is_subgroup}
        repetitions = {
            (key, repeat): rows
            for key, scored in self.scored.items()
            for repeat, rows in enumerate(scored)
        }
        draws: dict[tuple[tuple[Key, int], str], Floats] = {}
        for metrics, is_subgroup in ((self.metrics, False), (self._subgroup_metrics, True)):
            chosen = {
                entry: rows
                for entry, rows in repetitions.items()
                if (entry[0][0] in subgroups) == is_subgroup
            }
            draws |= bootstrap(chosen, metrics, self.config.resamples, seed)
        n_repeats = len(next(iter(self.scored.values()), ()))
        return {
            (key, metric): _mean_draws([draws[(key, r), metric] for r in range(n_repeats)])
            for (key, repeat), metric in draws
            if repeat == 0
        }

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
