"""The gates of a promotion: checks that a model version must pass to become the champion."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import polars as pl

from flowsheet.config import EvaluationConfig, FrozenModel, PromotionConfig, TaskConfig
from flowsheet.errors import CheckFailed, FlowsheetError
from flowsheet.evaluation.evidence import Evidence
from flowsheet.evaluation.metrics import get_metric
from flowsheet.evaluation.subsets import ALL
from flowsheet.lifecycle.deployment.candidates import (
    Candidate,
    check_comparable,
    load_candidate,
)
from flowsheet.lifecycle.experiment.evaluate import evaluate_predictions
from flowsheet.lifecycle.experiment.predictions import Predictions
from flowsheet.prediction.input_rows import example_tables
from flowsheet.tracking import model_registry
from flowsheet.tracking.model_registry import ModelVersion

CANDIDATE, CHAMPION = "candidate", "champion"
"""Names of the two models in the evidence."""
_TIMED_PREDICTIONS = 15


class GateResult(FrozenModel):
    """Result of one gate."""

    name: str
    passed: bool
    summary: str
    """Measured value and limit, or the reason, in words."""


def evaluate_gates(
    version: ModelVersion, champion_version: ModelVersion | None, config: PromotionConfig
) -> tuple[GateResult, ...]:
    """Evaluate every gate for a version; without a champion, the comparing gates pass.

    Args:
        version: the candidate.
        champion_version: the champion to compare with, if there is one.
        config: the gates' limits.

    Raises:
        CheckFailed: a run has no predictions.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        candidate = load_candidate(version.reference, folder / CANDIDATE)
        champion = (
            load_candidate(champion_version.reference, folder / CHAMPION)
            if champion_version
            else None
        )
    rows = _check_rows(candidate, champion)
    comparable = champion if rows.passed else None
    evidence = _evaluate(candidate, comparable, config)
    if comparable:
        comparison = _check_comparison(evidence, config)
    else:
        reason = "not compared: other rows" if champion else "there is no champion yet"
        comparison = GateResult(name=config.rule, passed=champion is None, summary=reason)
    return (
        rows,
        comparison,
        *_check_calibration(evidence, config),
        _check_subgroups(evidence, config),
        *_check_package(version, config),
    )


def _check_rows(candidate: Candidate, champion: Candidate | None) -> GateResult:
    if champion is None:
        return GateResult(name="rows", passed=True, summary="there is no champion to compare with")
    try:
        check_comparable(champion, candidate)
    except CheckFailed as difference:
        return GateResult(name="rows", passed=False, summary=difference.what)
    return GateResult(
        name="rows", passed=True, summary="same task and held-out rows as the champion"
    )


def _evaluate(
    candidate: Candidate, champion: Candidate | None, config: PromotionConfig
) -> Evidence:
    predictions = _rename_model(candidate, CANDIDATE)
    if champion:
        predictions = predictions.join_models(_rename_model(champion, CHAMPION))
    recorded = candidate.record.config
    evaluation = EvaluationConfig.model_validate(recorded["evaluation"]).model_copy(
        update={
            "metric": config.metric,
            "resamples": config.resamples,
            "confidence": config.confidence,
        }
    )
    task = TaskConfig.model_validate(recorded["task"])
    return evaluate_predictions(predictions, task, evaluation, int(recorded["seed"]))


def _rename_model(candidate: Candidate, name: str) -> Predictions:
    (model, *_) = candidate.predictions.models
    return candidate.predictions.select_models({model: name})


def _check_comparison(evidence: Evidence, config: PromotionConfig) -> GateResult:
    """The interval of the paired difference must lie above 0, or above minus the margin.

    The difference is signed so that positive values favour the candidate.
    """
    metric = get_metric(config.metric)
    pair = evidence.pairs.filter(metric=config.metric, subset=ALL).row(0, named=True)
    sign = 1 if (pair["model_a"] == CANDIDATE) == metric.larger_is_better else -1
    low, high = sorted((sign * pair["low"], sign * pair["high"]))
    limit = 0.0 if config.rule == "better" else -config.margin
    difference = f"{metric.label} {sign * pair['difference']:+.4f} [{low:+.4f}, {high:+.4f}]"
    return GateResult(
        name=config.rule,
        passed=low > limit,
        summary=f"{difference} for the candidate; the interval must lie above {limit:+.4f}",
    )


def _check_calibration(evidence: Evidence, config: PromotionConfig) -> Iterator[GateResult]:
    slope = _get_metric(evidence, "calibration_slope")
    low, high = config.calibration_slope
    yield GateResult(
        name="calibration slope",
        passed=low <= slope <= high,
        summary=f"{slope:.3f}, must be {low:g} to {high:g}",
    )
    ece = _get_metric(evidence, "ece")
    yield GateResult(
        name="calibration error",
        passed=ece <= config.ece,
        summary=f"{ece:.4f}, must be at most {config.ece:g}",
    )


def _get_metric(evidence: Evidence, metric: str) -> float:
    """The candidate's metric on all rows; NaN: not estimable."""
    row = evidence.leaderboard.filter(model=CANDIDATE, subset=ALL, metric=metric)
    return float(row["value"].item()) if row.height else float("nan")


def _check_subgroups(evidence: Evidence, config: PromotionConfig) -> GateResult:
    label = get_metric(config.metric).label
    is_subgroup = pl.col("subset").str.contains(":")
    subgroups = evidence.leaderboard.filter(is_subgroup, model=CANDIDATE, metric=config.metric)
    subgroups = subgroups.filter(pl.col("value").is_not_nan())
    if subgroups.is_empty():
        return GateResult(
            name="subgroups", passed=True, summary=f"{label} is not estimable in any subgroup"
        )
    worst = subgroups.sort("value", "subset").row(0, named=True)
    lowest = f"lowest {label} {worst['value']:.3f} ({worst['subset']})"
    return GateResult(
        name="subgroups",
        passed=worst["value"] >= config.subgroup_floor,
        summary=f"{lowest}, must be at least {config.subgroup_floor:g}",
    )


def _check_package(version: ModelVersion, config: PromotionConfig) -> Iterator[GateResult]:
    """The package loads, has this release's signature, and predicts fast enough."""
    tables = example_tables()
    try:
        model_package = model_registry.load_package(version)
        predictions = model_package.predict(tables)
    except FlowsheetError as error:
        yield GateResult(
            name="signature", passed=False, summary=f"the package does not predict: {error}"
        )
        return
    valid = predictions.height > 0 and model_registry.has_current_signature(version)
    yield GateResult(
        name="signature",
        passed=valid,
        summary="raw events in, risks out" if valid else "columns differ from this release's",
    )
    seconds = []
    for _ in range(_TIMED_PREDICTIONS):
        started = time.perf_counter()
        model_package.predict(tables)
        seconds.append(time.perf_counter() - started)
    latency_ms = 1000 * median(seconds)
    yield GateResult(
        name="latency",
        passed=latency_ms <= config.latency_ms,
        summary=f"{latency_ms:.0f} ms for one stay, must be at most {config.latency_ms:g} ms",
    )
