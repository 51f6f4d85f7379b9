"""Probabilities -> evidence: every figure with its interval, every pair with its sentence, every curve."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from flowsheet.config import EvaluationConfig, TaskConfig
from flowsheet.errors import CheckFailed
from flowsheet.evaluation.curves import all_curves
from flowsheet.evaluation.folds import FoldPredictions, ModelPredictions, check_folds, rounds
from flowsheet.evaluation.metrics import METRICS
from flowsheet.evaluation.results import Results
from flowsheet.evaluation.subsets import ALL, list_subsets
from flowsheet.evaluation.summaries import headline
from flowsheet.evaluation.tables import folds as fold_figures
from flowsheet.evaluation.tables import lead_times, leaderboard, pairs
from flowsheet.state.json_files import read_json, write_json
from flowsheet.typing import Floats
from flowsheet.windows.sequences import Sequences

_FRAMES = ("leaderboard", "pairs", "curves", "folds", "lead_times")


@dataclass(frozen=True)
class Evidence:
    """What the held-out rows say of the models; frames as in ``tables`` and ``curves``, the best model first."""

    leaderboard: pl.DataFrame
    pairs: pl.DataFrame
    curves: pl.DataFrame
    folds: pl.DataFrame
    """Empty without cross-validation."""
    lead_times: pl.DataFrame
    about: dict[str, Any]
    """metric, headline, models, subsets, resamples, confidence, seed, thresholds, cross_validation."""

    @property
    def models(self) -> list[str]:
        """Names, best first."""
        return list(self.about["models"])

    @property
    def headline(self) -> str:
        """The first sentence of a report."""
        return str(self.about["headline"])

    def metrics(self, model: str, part: str = "test") -> dict[str, float]:
        """Flat figures for a tracker: ``test.auroc``, ``test.auroc.low``,
        ``test.new_onsets.auroc``, ...

        What is not estimable is left out, and so are subgroups, whose names are free text.
        """
        board = self.leaderboard.filter(
            pl.col("model") == model, ~pl.col("subset").str.contains(":")
        )
        found: dict[str, float] = {}
        for row in board.iter_rows(named=True):
            subset = "" if row["subset"] == ALL else f"{row['subset']}."
            for suffix, column in (("", "value"), (".low", "low"), (".high", "high")):
                found[f"{part}.{subset}{row['metric']}{suffix}"] = row[column]
        return {name: value for name, value in found.items() if not math.isnan(value)}

    def save(self, folder: Path) -> None:
        """Write the frames as Parquet and ``about`` as JSON into an existing folder."""
        for name in _FRAMES:
            getattr(self, name).write_parquet(folder / f"{name}.parquet")
        write_json(folder / "about.json", self.about)

    @classmethod
    def load(cls, folder: Path) -> Evidence:
        """The evidence of :meth:`save`."""
        frames = {name: pl.read_parquet(folder / f"{name}.parquet") for name in _FRAMES}
        return cls(**frames, about=read_json(folder / "about.json"))


def evaluate(
    sequences: Sequences,
    predictions: Mapping[str, Floats],
    config: EvaluationConfig,
    seed: int,
    *,
    task: TaskConfig | None = None,
    thresholds: Mapping[str, float] | None = None,
    subgroups: pl.DataFrame | None = None,
) -> Evidence:
    """Compare models on the scored rows of ``sequences``.

    Args:
        sequences: the held-out stays, N rows. predictions: for each model, under any name, the
        probability of y = 1 of every row, shape (N,). config: the leaderboard's metric, resamples,
        confidence, and how little is too little to tell. seed: of the resamples; equal seeds and
        rows give equal evidence. task: told, lead times are reported, and the PhysioNet 2019
        utility where it is defined. thresholds: for each model the probability from which on it
        rings, chosen on development data; figures of alarms are reported only with them.
        subgroups: ``stay_id`` and one column for each grouping.

    Raises:
        CheckFailed: a prediction is not a probability, or there is not one for each row.
    """
    rings = dict(thresholds or {})
    for model in sorted(predictions):
        _check(model, predictions[model], sequences)
    told = {
        m: ModelPredictions(p, p >= rings[m] if m in rings else None)
        for m, p in sorted(predictions.items())
    }
    contest = Results.from_predictions(
        sequences, [told], list(list_subsets(sequences, subgroups)), config, seed=seed, task=task
    )
    return _evidence(contest, seed, rings)


def evaluate_folds(
    sequences: Sequences,
    folds: Sequence[FoldPredictions],
    config: EvaluationConfig,
    seed: int,
    *,
    task: TaskConfig | None = None,
    subgroups: pl.DataFrame | None = None,
) -> Evidence:
    """Compare models by repeated cross-validation over the subjects of ``sequences``.

    A figure is the mean over repetitions of what the out-of-fold predictions of all subjects give
    together, its interval from resamples of the subjects; alarms are decided fold by fold. Pairs
    are compared by the folds' own figures with the corrected resampled t-test (see
    ``resampled_t``), by the resamples where the folds are sites. Curves are of the first
    repetition.

    Raises:
        CheckFailed: a prediction is not a probability, or a repetition does not hold out every
        subject once.
    """
    folds = sorted(folds, key=lambda fold: (fold.repeat, fold.fold))
    check_folds(sequences, folds)
    told = rounds(sequences, folds)
    for each in told:
        for model, said in each.items():
            _check(model, said.p, sequences)
    contest = Results.from_predictions(
        sequences,
        told,
        list(list_subsets(sequences, subgroups)),
        config,
        seed=seed,
        task=task,
        folds=folds,
    )
    return _evidence(contest, seed, {})


def _evidence(contest: Results, seed: int, thresholds: dict[str, float]) -> Evidence:
    config = contest.config
    first = METRICS.get(config.metric)()
    models = contest.ranked(first)
    board, compared = leaderboard(contest, models), pairs(contest, models)
    about = {
        "metric": config.metric,
        "headline": headline(board, compared, first),
        "models": models,
        "subsets": [subset.name for subset in contest.subsets],
        "resamples": config.resamples,
        "confidence": config.confidence,
        "seed": seed,
        "thresholds": thresholds,
        "cross_validation": _cross_validation(contest),
    }
    curves = all_curves(contest, models, seed)
    return Evidence(
        board, compared, curves, fold_figures(contest), lead_times(contest, models), about
    )


def _cross_validation(contest: Results) -> dict[str, Any] | None:
    """repeats, folds, and the subjects of a fold on average; None without folds."""
    if not contest.folds:
        return None
    repeats = len({fold.repeat for fold in contest.folds})
    return {
        "repeats": repeats,
        "folds": len(contest.folds) // repeats,
        "random": contest.random_folds > 0,
        "held_out_subjects": sum(f.test for f in contest.folds) / len(contest.folds),
        "learned_from_subjects": sum(f.training for f in contest.folds) / len(contest.folds),
        "test_to_training": contest.test_to_training,
    }


def _check(model: str, p: Floats, sequences: Sequences) -> None:
    if p.shape != (sequences.rows,):
        raise CheckFailed(
            f"{model} gave {p.size:,} probabilities for {sequences.rows:,} rows",
            where=f"model {model}",
            todo="predict_proba must give one probability for every row, scored or not",
        )
    wrong = np.flatnonzero(~((p >= 0) & (p <= 1)))
    if len(wrong):
        row = wrong[0]
        stay = sequences.stay_id[np.searchsorted(sequences.offsets, row, side="right") - 1]
        raise CheckFailed(
            f"{len(wrong):,} of {model}'s {len(p):,} predictions are not probabilities; the first is {p[row]}",
            where=f"model {model}, stay {stay}, step {sequences.step[row]}",
            todo="predictions must be finite and between 0 and 1: look at the model's predict_proba and its inputs",
        )
