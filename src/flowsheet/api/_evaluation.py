"""Evaluations: metrics with intervals, pairs and curves, as frames and figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import polars as pl

from flowsheet.api._html import describe
from flowsheet.api._model import Predictor
from flowsheet.api._windows import Windows, read_evaluation
from flowsheet.compose import load
from flowsheet.config import AlertingConfig, Censor, EvaluationConfig, validate_config
from flowsheet.errors import UsageError
from flowsheet.evaluation import evidence as _evidence
from flowsheet.evaluation.alert_policy import make_policies
from flowsheet.evaluation.leaderboard import select_leading_metrics
from flowsheet.evaluation.threshold import choose_policy
from flowsheet.typing import Floats


class Plots:
    """The figures of an evaluation: ``plot.roc()``, ``plot.calibration()``, ..."""

    def __init__(self, evaluation: Evaluation) -> None:
        self._evaluation = evaluation

    def __getattr__(self, name: str) -> Any:
        """A figure of ``fs.plot`` for this evaluation.

        Raises:
            AttributeError: there is no such figure.
        """
        from flowsheet.api import plot

        if name not in plot.EVALUATION_FIGURES:
            known = ", ".join(plot.EVALUATION_FIGURES)
            raise AttributeError(f"there is no figure {name!r} (known: {known})")
        figure = getattr(plot, name)
        return lambda *arguments, **keywords: figure(self._evaluation, *arguments, **keywords)

    def __dir__(self) -> list[str]:
        from flowsheet.api import plot

        return list(plot.EVALUATION_FIGURES)


class Evaluation:
    """The evaluation of some models on the same held-out rows."""

    def __init__(self, evidence: _evidence.Evidence) -> None:
        self.evidence = evidence

    @property
    def models(self) -> list[str]:
        """The models, best first."""
        return self.evidence.models

    @property
    def headline(self) -> str:
        """Which model ranks first, by what, in sentences."""
        return self.evidence.headline

    @property
    def leaderboard(self) -> pl.DataFrame:
        """A row for each model, best first: the leading metrics and their intervals, as numbers.

        The rows that rank the models: new onsets where they are a part, else all.

        Examples:
            >>> import flowsheet as fs
            >>> ward = fs.ingest("simulated_small", stays=60)
            >>> train, valid, test = fs.split(fs.windows(ward, features="vitals_only"), seed=2)
            >>> model = fs.model("logistic_regression", l2=0.01).fit(train, valid)
            >>> evaluation = fs.evaluate({"logistic": model}, test, valid=valid, resamples=20)
            >>> evaluation.leaderboard.columns[:4]
            ['model', 'auroc', 'auroc_low', 'auroc_high']
        """
        rows = self.metrics.filter(subset=self.evidence.ranking_subset)
        leading = select_leading_metrics(self.evidence, rows)
        board = pl.DataFrame({"model": self.models})
        for metric in leading:
            columns = {"value": metric, "low": f"{metric}_low", "high": f"{metric}_high"}
            values = rows.filter(metric=metric).select("model", *columns).rename(columns)
            board = board.join(values, on="model", how="left", maintain_order="left")
        return board

    @property
    def metrics(self) -> pl.DataFrame:
        """Every metric of every model on every subset of the rows: value, low, high, counts.

        Examples:
            >>> import flowsheet as fs
            >>> ward = fs.ingest("simulated_small", stays=60)
            >>> train, valid, test = fs.split(fs.windows(ward, features="vitals_only"), seed=2)
            >>> model = fs.model("logistic_regression", l2=0.01).fit(train, valid)
            >>> evaluation = fs.evaluate({"logistic": model}, test, valid=valid, resamples=20)
            >>> auroc = evaluation.metrics.filter(metric="auroc", subset="all")["value"][0]
            >>> 0 < auroc < 1
            True
        """
        return self.evidence.leaderboard

    @property
    def pairs(self) -> pl.DataFrame:
        """Every pair of models by every metric: difference, interval, p, verdict."""
        return self.evidence.pairs

    @property
    def curves(self) -> pl.DataFrame:
        """Points of the curves: roc, pr, calibration, decision.

        Examples:
            >>> import flowsheet as fs
            >>> ward = fs.ingest("simulated_small", stays=60)
            >>> train, valid, test = fs.split(fs.windows(ward, features="vitals_only"), seed=2)
            >>> model = fs.model("logistic_regression", l2=0.01).fit(train, valid)
            >>> evaluation = fs.evaluate({"logistic": model}, test, valid=valid, resamples=20)
            >>> sorted(set(evaluation.curves["curve"]))
            ['calibration', 'decision', 'pr', 'roc']
        """
        return self.evidence.curves

    @property
    def plot(self) -> Plots:
        """Figures: ``plot.roc()``, ``plot.calibration()``, ..."""
        return Plots(self)

    def __repr__(self) -> str:
        return f"Evaluation({', '.join(self.models)}: {self.headline})"

    def _repr_html_(self) -> str:
        return describe("Evaluation", {"result": self.headline}, self.leaderboard)


def evaluate(
    predictions: Mapping[str, Floats | Predictor],
    test: Windows,
    *,
    valid: Windows | None = None,
    thresholds: Mapping[str, float] | None = None,
    evaluation: str | EvaluationConfig = "quick",
    alerting: str | AlertingConfig = "standard",
    seed: int = 1,
    **settings: Any,
) -> Evaluation:
    """Compare models on the scored rows of held-out windows.

    Args:
        predictions: by name a probability for every row of ``test``, or a fitted model.
        test: windows of the held-out subjects.
        valid: with it the alert policy of each fitted model is chosen, on these windows.
        thresholds: decision thresholds by name, in place of a policy; metrics of alerts need one.
        evaluation: a choice (``flowsheet ls evaluations``), or its configuration.
        alerting: a choice (``flowsheet ls alertings``), or its configuration.
        seed: of the resamples.
        settings: of the evaluation that differ, such as ``resamples=1000``.

    Raises:
        CheckFailed: there is not one probability for every row.
        UsageError: a setting is unknown, or the windows were not split.

    Examples:
        >>> import flowsheet as fs
        >>> ward = fs.ingest("simulated_small", stays=60)
        >>> train, valid, test = fs.split(fs.windows(ward, features="vitals_only"), seed=2)
        >>> model = fs.model("logistic_regression", l2=0.01).fit(train, valid)
        >>> evaluation = fs.evaluate({"logistic": model}, test, valid=valid, resamples=20)
        >>> evaluation.models
        ['logistic']
    """
    config = read_evaluation(evaluation, settings)
    if test.task.censor is Censor.competing and test.sequences.weight is None:
        what = "the rows of this task have weights, which are estimated on the training subjects"
        raise UsageError(what, todo="evaluate the parts of windows.split(...)")
    if isinstance(alerting, str):
        values = load("alerting", alerting)
        alerting = validate_config(AlertingConfig, values, where=f"alerting {alerting}")
    policies = make_policies(thresholds or {})
    probabilities: dict[str, Floats] = {}
    for name, prediction in predictions.items():
        if not isinstance(prediction, Predictor):
            probabilities[name] = prediction
            continue
        probabilities[name] = prediction.predict_proba(test)
        if valid is not None and name not in policies:
            p = prediction.predict_proba(valid)
            policies[name] = choose_policy(valid.sequences, p, valid.task, config, alerting)
    evidence = _evidence.evaluate(
        replace(test.sequences),
        probabilities,
        config,
        seed,
        task=test.task,
        policies=policies,
        subgroups=test.subgroups,
    )
    return Evaluation(evidence)
