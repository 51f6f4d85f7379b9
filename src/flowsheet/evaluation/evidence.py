"""Predicted probabilities -> evidence: every metric with its interval, every pair, every curve."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from flowsheet.cohort.responses.base import Words, find_words
from flowsheet.cohort.sepsis3 import SEPSIS
from flowsheet.config import EvaluationConfig, TaskConfig
from flowsheet.evaluation.alert_judgement import (
    AlertJudgement,
    judge_fold_policies,
    judge_policies,
)
from flowsheet.evaluation.alert_policy import AlertPolicy
from flowsheet.evaluation.curves import compute_curves
from flowsheet.evaluation.draws import EvaluationDraws
from flowsheet.evaluation.folds import FoldPredictions, pool_folds
from flowsheet.evaluation.headline import write_headline
from flowsheet.evaluation.metrics import get_metric
from flowsheet.evaluation.ranking import rank_models
from flowsheet.evaluation.results import EvaluationResults
from flowsheet.evaluation.scored_models import ScoredModels, score_folds, score_holdout
from flowsheet.evaluation.subsets import ALL
from flowsheet.evaluation.summaries import complete_titles
from flowsheet.evaluation.tables import (
    LEADERBOARD,
    compare_pairs,
    count_lead_times,
    make_fold_table,
    make_leaderboard,
)
from flowsheet.state.json_files import read_json, write_json
from flowsheet.typing import Floats
from flowsheet.windows.sequences import Sequences

_FRAMES = ("leaderboard", "pairs", "curves", "folds", "lead_times")
_LATER_FRAMES = ("new_onset_subgroups",)
"""Not in the evidence of earlier releases."""
_NAME_COLUMNS = ("model", "model_a", "model_b")


@dataclass(frozen=True)
class Evidence:
    """The evaluation of some models on held-out rows, the best model first.

    The columns of the frames are documented in ``tables`` and ``curves``.
    """

    leaderboard: pl.DataFrame
    pairs: pl.DataFrame
    curves: pl.DataFrame
    folds: pl.DataFrame
    """Empty without cross-validation."""
    lead_times: pl.DataFrame
    about: dict[str, Any]
    """metric, headline, models, ranking_subset, subsets, resamples, confidence, seed, thresholds,
    alerts, cross_validation, response, titles."""
    new_onset_subgroups: pl.DataFrame = field(
        default_factory=lambda: pl.DataFrame(schema=LEADERBOARD)
    )
    """Subgroups of the patients who are not in the state at prediction; columns of the
    leaderboard. Those in ``leaderboard`` are of all rows."""

    @property
    def models(self) -> list[str]:
        """The models' names, best first."""
        return list(self.about["models"])

    @property
    def titles(self) -> dict[str, str]:
        """What people call each model; evidence of earlier releases: by its name."""
        return {model: model for model in self.models} | dict(self.about.get("titles", {}))

    def with_titles(self) -> Evidence:
        """The same with the models' titles in place of their names, for people to read."""
        titles = self.titles
        frames = {
            name: _replace_names(getattr(self, name), titles) for name in (*_FRAMES, *_LATER_FRAMES)
        }
        by_model: dict[str, Any] = {
            key: {titles.get(model, model): value for model, value in self.about[key].items()}
            for key in ("thresholds", "alerts")
            if key in self.about
        }
        about = self.about | {
            "models": [titles[model] for model in self.models],
            **by_model,
            "titles": {},
        }
        return replace(self, **frames, about=about)

    @property
    def ranking_subset(self) -> str:
        """The subset of rows that ranks the models; evidence of earlier releases: all rows."""
        return str(self.about.get("ranking_subset", ALL))

    @property
    def words(self) -> Words:
        """How to speak of the response; evidence of earlier releases is of sepsis."""
        return find_words(self.about.get("response", SEPSIS))

    @property
    def alerts(self) -> dict[str, AlertJudgement]:
        """By model, what its alert policy costs and finds; empty in earlier releases' evidence."""
        judged = self.about.get("alerts", {}).items()
        return {model: AlertJudgement.model_validate(values) for model, values in judged}

    @property
    def headline(self) -> str:
        """The first sentences of a report."""
        return str(self.about["headline"])

    def metrics(self, model: str, part: str = "test") -> dict[str, float]:
        """Flat names and values for a tracker: ``test.auroc``, ``test.auroc.low``,
        ``test.new_onsets.auroc``, ...

        Those of the alert policy are ``test.alerts.ppv``, ``test.alerts.promise_kept``, ... What is
        not estimable is left out, and so are subgroups, whose names are free text.
        """
        rows = self.leaderboard.filter(
            pl.col("model") == model, ~pl.col("subset").str.contains(":")
        )
        values: dict[str, float] = {}
        for row in rows.iter_rows(named=True):
            subset = "" if row["subset"] == ALL else f"{row['subset']}."
            for suffix, column in (("", "value"), (".low", "low"), (".high", "high")):
                values[f"{part}.{subset}{row['metric']}{suffix}"] = row[column]
        if model in self.alerts:
            of_alerts = self.alerts[model].metrics().items()
            values |= {f"{part}.alerts.{name}": value for name, value in of_alerts}
        return {name: value for name, value in values.items() if not math.isnan(value)}

    def save(self, folder: Path) -> None:
        """Write the frames as Parquet and ``about`` as JSON into an existing folder."""
        for name in (*_FRAMES, *_LATER_FRAMES):
            getattr(self, name).write_parquet(folder / f"{name}.parquet")
        write_json(folder / "about.json", self.about)

    @classmethod
    def load(cls, folder: Path) -> Evidence:
        """The evidence written by :meth:`save`."""
        later = [name for name in _LATER_FRAMES if (folder / f"{name}.parquet").exists()]
        frames = {name: pl.read_parquet(folder / f"{name}.parquet") for name in (*_FRAMES, *later)}
        return cls(**frames, about=read_json(folder / "about.json"))


def read_titles(folder: Path) -> dict[str, str]:
    """By model what people call it; none in evidence that keeps no titles, as of other releases."""
    about = folder / "about.json"
    return dict(read_json(about).get("titles", {})) if about.is_file() else {}


def _replace_names(frame: pl.DataFrame, titles: Mapping[str, str]) -> pl.DataFrame:
    columns = [name for name in _NAME_COLUMNS if name in frame.columns]
    return frame.with_columns(pl.col(columns).replace(titles))


def evaluate(
    sequences: Sequences,
    predictions: Mapping[str, Floats],
    config: EvaluationConfig,
    seed: int,
    *,
    task: TaskConfig | None = None,
    policies: Mapping[str, AlertPolicy] | None = None,
    subgroups: pl.DataFrame | None = None,
    titles: Mapping[str, str] | None = None,
    draws: EvaluationDraws | None = None,
) -> Evidence:
    """Compare models on the scored rows of ``sequences``.

    Args:
        sequences: the held-out stays, N rows.
        predictions: by model, under any name, the probability of y = 1 of every row, shape (N,).
        config: the metrics, resamples and confidence, and the least number of events.
        seed: of the resamples; equal seeds and rows give equal evidence.
        task: with it lead times are computed, and the PhysioNet 2019 utility where it is defined.
        policies: by model the alert policy, chosen on development data. Metrics of alerts are
            computed only with it: of all rows at the threshold or above, without silence.
        subgroups: ``stay_id`` and one column for each grouping.
        titles: by model what people call it, for the sentences; a model without one by its name.
        draws: what was resampled elsewhere with the same seed; None: everything is resampled here.

    Raises:
        CheckFailed: a prediction is not a probability, or there is not one for each row.
        UsageError: an operating point of ``config`` is unknown or out of range.
    """
    policies = dict(policies or {})
    scored = score_holdout(
        sequences, predictions, config, task=task, policies=policies, subgroups=subgroups
    )
    alerts = {} if task is None else judge_policies(sequences, predictions, policies, task, config)
    return _make_evidence(
        scored.with_draws(draws or scored.resample(seed)),
        seed,
        {model: policy.threshold for model, policy in policies.items()},
        task,
        alerts=alerts,
        titles=titles or {},
    )


def evaluate_folds(
    sequences: Sequences,
    folds: Sequence[FoldPredictions],
    config: EvaluationConfig,
    seed: int,
    *,
    task: TaskConfig | None = None,
    subgroups: pl.DataFrame | None = None,
    titles: Mapping[str, str] | None = None,
    draws: EvaluationDraws | None = None,
) -> Evidence:
    """Compare models by repeated cross-validation over the subjects of ``sequences``.

    The value of a metric is the mean over repetitions of its values on the pooled out-of-fold
    predictions of all subjects, its interval from resamples of the subjects; alerts use the
    alert policies of each fold. Pairs are compared by their values in each fold with the corrected
    resampled t-test (see ``resampled_t``), or by the resamples where the folds are sites. Curves
    are of the first repetition.

    Args:
        sequences: the stays of all subjects, N rows.
        folds: of all repetitions, in any order.
        config: the metrics, resamples and confidence, and the least number of events.
        seed: of the resamples.
        task: with it lead times are computed, and the PhysioNet 2019 utility where it is defined.
        subgroups: ``stay_id`` and one column for each grouping.
        titles: by model what people call it, for the sentences; a model without one by its name.
        draws: what was resampled elsewhere with the same seed; None: everything is resampled here.

    Raises:
        CheckFailed: a prediction is not a probability, or a repetition does not hold out every
            subject once.
        UsageError: an operating point of ``config`` is unknown or out of range.
    """
    folds = sorted(folds, key=lambda fold: (fold.id.repeat, fold.id.fold))
    scored = score_folds(sequences, folds, config, task=task, subgroups=subgroups)
    scored = scored.with_draws(draws or scored.resample(seed))
    results = scored.results.with_folds(sequences, folds, pool_folds(sequences, folds), task)
    alerts = {} if task is None else judge_fold_policies(sequences, folds, task, config)
    return _make_evidence(
        replace(scored, results=results), seed, {}, task, alerts=alerts, titles=titles or {}
    )


def _make_evidence(
    scored: ScoredModels,
    seed: int,
    thresholds: dict[str, float],
    task: TaskConfig | None,
    *,
    alerts: Mapping[str, AlertJudgement],
    titles: Mapping[str, str],
) -> Evidence:
    """The evidence of scored models.

    Args:
        scored: the results of all models, with their resamples.
        seed: of the resamples.
        thresholds: by model.
        task: whose response the sentences name.
        alerts: by model, what its policy's alerts cost and find.
        titles: by model.
    """
    results = scored.results
    config = results.config
    metric = get_metric(config.metric)
    ranking = rank_models(results)
    models = ranking.models
    response = task.response if task else SEPSIS
    words = find_words(response)
    all_titles = complete_titles(models, titles)
    leaderboard = make_leaderboard(results, models)
    pairs = compare_pairs(results, models, words, all_titles)
    headline = write_headline(leaderboard, pairs, metric, ranking, words=words, titles=all_titles)
    promise = alerts[models[0]].promise if models[0] in alerts else None
    return Evidence(
        leaderboard=leaderboard,
        pairs=pairs,
        curves=compute_curves(results, models),
        folds=make_fold_table(results),
        lead_times=count_lead_times(results, models),
        about={
            "metric": config.metric,
            "headline": f"{headline} {promise.sentence}" if promise else headline,
            "models": models,
            "ranking_subset": ranking.subset,
            "subsets": [subset.name for subset in results.subsets],
            "resamples": config.resamples,
            "confidence": config.confidence,
            "seed": seed,
            "thresholds": thresholds,
            "alerts": {model: judged.model_dump(mode="json") for model, judged in alerts.items()},
            "response": response,
            "titles": all_titles,
            "cross_validation": _cross_validation_facts(results),
        },
        new_onset_subgroups=make_leaderboard(scored.groups, models),
    )


def _cross_validation_facts(results: EvaluationResults) -> dict[str, Any] | None:
    """The number of repetitions and folds, and the mean size of a fold; None without folds."""
    folds = results.folds
    if not folds:
        return None
    n_repeats = len({fold.id.repeat for fold in folds})
    return {
        "repeats": n_repeats,
        "folds": len(folds) // n_repeats,
        "has_random_folds": results.n_random_folds > 0,
        "mean_test_subjects": sum(fold.n_test_subjects for fold in folds) / len(folds),
        "mean_training_subjects": sum(fold.n_training_subjects for fold in folds) / len(folds),
        "test_to_training": results.test_to_training,
    }
