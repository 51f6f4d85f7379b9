"""What every model scored in every subset: as seen, in every resample, in every fold."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from flowsheet.config import EvaluationConfig, Protocol, TaskConfig
from flowsheet.evaluation.bootstrap import bootstrap
from flowsheet.evaluation.folds import FoldPredictions, ModelPredictions, rows_of
from flowsheet.evaluation.metrics import METRICS, Metric, ScoredRows
from flowsheet.evaluation.subsets import (
    ALL,
    STAYS,
    Subset,
    scored,
)
from flowsheet.typing import Floats
from flowsheet.windows.sequences import Sequences

Key = tuple[str, str]
"""(subset, model)."""

SUBGROUP = ("auroc", "auprc", "brier", "calibration_intercept", "normalised_utility")
"""What is told of subgroups, beside the leaderboard's metric."""


@dataclass(frozen=True)
class FoldFigures:
    """What was scored in one fold."""

    repeat: int
    fold: int
    test: int  # subjects held out
    training: int  # subjects learned from
    figures: Mapping[tuple[str, str, str], float]  # by (subset, model, metric)
    counts: Mapping[str, tuple[int, int, int]]  # by subset: rows, events, subjects


@dataclass(frozen=True)
class Results:
    """Everything that was scored."""

    scored: Mapping[Key, tuple[ScoredRows, ...]]
    """For each repetition; one without cross-validation. Rows and truth are the same in all."""
    subsets: Sequence[Subset]
    metrics: Sequence[Metric]
    draws: Mapping[tuple[Key, str], Floats]
    """By (key, metric): (B,), the mean over repetitions on the same resample."""
    config: EvaluationConfig
    folds: Sequence[FoldFigures] = ()

    @classmethod
    def from_predictions(
        cls,
        sequences: Sequences,
        rounds: Sequence[Mapping[str, ModelPredictions]],
        subsets: Sequence[Subset],
        config: EvaluationConfig,
        *,
        seed: int,
        task: TaskConfig | None,
        folds: Sequence[FoldPredictions] = (),
    ) -> Results:
        """Score and resample everything; ``rounds`` holds for each repetition what each model said of all rows."""
        everything = {
            (subset.name, model): tuple(
                scored(sequences, subset, told[model], config, task) for told in rounds
            )
            for subset in subsets
            for model in sorted(rounds[0])
        }
        seen = cls(everything, subsets, [each() for _, each in METRICS], {}, config)
        place = {repeat: i for i, repeat in enumerate(sorted({fold.repeat for fold in folds}))}
        in_folds = [
            seen.in_fold(sequences, fold, rounds[place[fold.repeat]], task) for fold in folds
        ]
        return cls(everything, subsets, seen.metrics, seen.resampled(seed), config, in_folds)

    def metrics_of(self, subset: Subset, model: str) -> list[Metric]:
        """Those that are told of a model in a subset."""
        told = self.of_subgroups if subset.is_subgroup else self.metrics
        return [
            metric for metric in told if metric.is_applicable(self.scored[subset.name, model][0])
        ]

    @property
    def random_folds(self) -> int:
        """Folds that are draws of one kind, whose spread tells how sure a difference is; sites are not."""
        return 0 if self.config.protocol is Protocol.site else len(self.folds)

    @property
    def of_subgroups(self) -> list[Metric]:
        """The few metrics that subgroups are told of."""
        return [metric for metric in self.metrics if metric.name in (*SUBGROUP, self.config.metric)]

    def resampled(self, seed: int) -> dict[tuple[Key, str], Floats]:
        """Every figure in every resample, averaged over repetitions."""
        groups = {subset.name for subset in self.subsets if subset.is_subgroup}
        entries = {
            (key, r): rows for key, each in self.scored.items() for r, rows in enumerate(each)
        }
        draws: dict[tuple[tuple[Key, int], str], Floats] = {}
        for metrics, inside in ((self.metrics, False), (self.of_subgroups, True)):
            some = {k: rows for k, rows in entries.items() if (k[0][0] in groups) == inside}
            draws |= bootstrap(some, metrics, self.config.resamples, seed)
        repeats = len(next(iter(self.scored.values()), ()))
        return {
            (key, name): values
            if repeats == 1
            else np.mean([draws[(key, r), name] for r in range(repeats)], axis=0)
            for ((key, first), name), values in draws.items()
            if first == 0
        }

    def in_fold(
        self,
        sequences: Sequences,
        fold: FoldPredictions,
        told: Mapping[str, ModelPredictions],
        task: TaskConfig | None,
    ) -> FoldFigures:
        """Every figure on the held-out subjects of one fold, subgroups left out."""
        rows = rows_of(sequences, fold)
        figures: dict[tuple[str, str, str], float] = {}
        counts: dict[str, tuple[int, int, int]] = {}
        for subset in self.subsets:
            for model in [] if subset.is_subgroup else self.models:
                held = scored(sequences, subset.within(rows), told[model], self.config, task)
                figures |= {
                    (subset.name, model, m.name): m(held) for m in self.metrics_of(subset, model)
                }
                counts[subset.name] = held.counts
        return FoldFigures(
            fold.repeat, fold.fold, len(fold.subjects), fold.learned_from, figures, counts
        )

    @property
    def test_to_training(self) -> float:
        """Subjects held out for each one learned from, over all folds."""
        return sum(f.test for f in self.folds) / max(1, sum(f.training for f in self.folds))

    @cached_property
    def models(self) -> list[str]:
        """By name."""
        return sorted({model for _, model in self.scored})

    def figure(self, subset: str, model: str, metric: Metric) -> float:
        """The figure on the rows as seen, the mean over repetitions."""
        return float(np.mean([figure(metric, rows) for rows in self.scored[subset, model]]))

    def stays(self, model: str) -> Iterator[ScoredRows]:
        """The stays of each repetition."""
        yield from self.scored[STAYS, model]

    def ranked(self, by: Metric) -> list[str]:
        """Models, best first; those that cannot be told last."""

        def place(model: str) -> tuple[bool, float, str]:
            value = (
                self.figure(ALL, model, by)
                if by.is_applicable(self.scored[ALL, model][0])
                else math.nan
            )
            return math.isnan(value), 0.0 if math.isnan(value) else _badness(by, value), model

        return sorted(self.models, key=place)


def _badness(metric: Metric, value: float) -> float:
    if metric.larger_is_better is None:
        return abs(value - metric.ideal)
    return -value if metric.larger_is_better else value


def figure(metric: Metric, rows: ScoredRows) -> float:
    """The figure on the rows as seen, computed once."""
    return rows.cached(f"figure {metric.name}", lambda: metric(rows))
