"""Probabilities -> evidence: every figure with its interval, every pair with its sentence, every curve."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flowsheet.config import EvaluationConfig, TaskConfig
from flowsheet.errors import CheckFailed
from flowsheet.evaluation.curves import all_curves
from flowsheet.evaluation.metrics import METRICS
from flowsheet.evaluation.scopes import ALL, has_utility, scopes, scored_rows
from flowsheet.evaluation.sentences import headline
from flowsheet.evaluation.tables import Contest, leaderboard, pairs
from flowsheet.home import read_json, write_json
from flowsheet.windows.sequences import Sequences

_FRAMES = ("leaderboard", "pairs", "curves")


@dataclass(frozen=True)
class Evidence:
    """What the held-out rows say of the models; frames as in ``tables`` and ``curves``, the best model first."""

    leaderboard: pl.DataFrame
    pairs: pl.DataFrame
    curves: pl.DataFrame
    about: dict[str, Any]
    """metric, headline, models, scopes, resamples, confidence, seed, thresholds."""

    @property
    def models(self) -> list[str]:
        """Names, best first."""
        return list(self.about["models"])

    @property
    def headline(self) -> str:
        """The first sentence of a report."""
        return str(self.about["headline"])

    def metrics(self, model: str, part: str = "test") -> dict[str, float]:
        """Flat figures for a tracker: ``test.auroc``, ``test.auroc.low``, ``test.transitions_in.auroc``, ...

        What is not estimable is left out, and so are subgroups, whose names are free text.
        """
        board = self.leaderboard.filter(pl.col("model") == model, ~pl.col("scope").str.contains(":"))
        found: dict[str, float] = {}
        for row in board.iter_rows(named=True):
            scope = "" if row["scope"] == ALL else f"{row['scope']}."
            for suffix, column in (("", "value"), (".low", "low"), (".high", "high")):
                found[f"{part}.{scope}{row['metric']}{suffix}"] = row[column]
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
    predictions: Mapping[str, NDArray[np.float64]],
    config: EvaluationConfig,
    seed: int,
    *,
    task: TaskConfig | None = None,
    thresholds: Mapping[str, float] | None = None,
    subgroups: pl.DataFrame | None = None,
) -> Evidence:
    """Compare models on the scored rows of ``sequences``.

    Args:
        sequences: the held-out stays, N rows.
        predictions: for each model the probability of y = 1 of every row, shape (N,).
        config: the leaderboard's metric, resamples, confidence, and how little is too little to tell.
        seed: of the resamples; equal seeds and rows give equal evidence.
        task: told, the PhysioNet 2019 utility is reported where it is defined.
        thresholds: for each model the probability from which on it rings, chosen on development data;
            figures of alarms are reported only with them.
        subgroups: ``stay_id`` and one column for each grouping.

    Raises:
        CheckFailed: a prediction is not a probability, or there is not one for each row.
    """
    for model in sorted(predictions):
        _check(model, predictions[model], sequences)
    rings, regions = thresholds or {}, list(scopes(sequences, subgroups))
    scored = {
        (scope.name, model): scored_rows(
            sequences, scope, p, config, threshold=rings.get(model), whole_stays=scope.name == ALL and has_utility(task)
        )
        for scope in regions
        for model, p in sorted(predictions.items())
    }
    first = METRICS.get(config.metric)()
    contest = Contest.held(scored, regions, [cls() for _, cls in METRICS], config, seed)
    models = contest.ranked(first)
    board, compared = leaderboard(contest, models), pairs(contest, models)
    about = {
        "metric": config.metric,
        "headline": headline(board, compared, first),
        "models": models,
        "scopes": [scope.name for scope in regions],
        "resamples": config.resamples,
        "confidence": config.confidence,
        "seed": seed,
        "thresholds": dict(rings),
    }
    return Evidence(board, compared, all_curves(contest, models, seed), about)


def _check(model: str, p: NDArray[np.float64], sequences: Sequences) -> None:
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
