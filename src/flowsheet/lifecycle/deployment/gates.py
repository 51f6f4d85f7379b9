"""What a version must show before it serves, gate by gate."""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import median

import polars as pl

from flowsheet.config import EvaluationConfig, FrozenModel, PromotionConfig, TaskConfig
from flowsheet.errors import CheckFailed, FlowsheetError
from flowsheet.evaluation.evidence import Evidence
from flowsheet.evaluation.metrics import METRICS
from flowsheet.evaluation.subsets import ALL
from flowsheet.lifecycle.deployment.candidates import Candidate, check_comparable
from flowsheet.lifecycle.experiment.evaluate import evaluate_predictions
from flowsheet.lifecycle.experiment.predictions import Predictions
from flowsheet.prediction.input_rows import example_tables
from flowsheet.tracking import model_registry
from flowsheet.tracking.model_registry import ModelVersion

CANDIDATE, CHAMPION = "candidate", "champion"
_TRIES = 15


class Gate(FrozenModel):
    """One gate's verdict."""

    name: str
    passed: bool
    said: str
    """Figure and limit, in words."""


def gates(
    version: ModelVersion, candidate: Candidate, champion: Candidate | None, config: PromotionConfig
) -> list[Gate]:
    """Every gate, passed or not; without a champion those that compare are passed."""
    rows = _same_rows(candidate, champion)
    evidence = _evidence(candidate, champion if rows.passed else None, config)
    against = _against(evidence, config) if champion and rows.passed else None
    return [
        rows,
        against or Gate(name=config.rule, passed=champion is None, said=_not_compared(champion)),
        *_calibration(evidence, config),
        _subgroups(evidence, config),
        *_package(version, config),
    ]


def _same_rows(candidate: Candidate, champion: Candidate | None) -> Gate:
    if champion is None:
        return Gate(name="rows", passed=True, said="there is no champion to be compared with")
    try:
        check_comparable(champion, candidate)
    except CheckFailed as difference:
        return Gate(name="rows", passed=False, said=difference.what)
    return Gate(name="rows", passed=True, said="task and held-out rows are the champion's")


def _not_compared(champion: Candidate | None) -> str:
    return "not judged: the rows are not the champion's" if champion else "there is no champion yet"


def _evidence(
    candidate: Candidate, champion: Candidate | None, config: PromotionConfig
) -> Evidence:
    held = _as(candidate, CANDIDATE)
    if champion:
        held = held.join_models(_as(champion, CHAMPION))
    recorded = candidate.record.config
    evaluation = EvaluationConfig.model_validate(recorded["evaluation"]).model_copy(
        update={
            "metric": config.metric,
            "resamples": config.resamples,
            "confidence": config.confidence,
        }
    )
    return evaluate_predictions(
        held, TaskConfig.model_validate(recorded["task"]), evaluation, int(recorded["seed"])
    )


def _as(contender: Candidate, name: str) -> Predictions:
    return contender.predictions.select_models({contender.predictions.models[0]: name})


def _against(evidence: Evidence, config: PromotionConfig) -> Gate:
    """The paired difference, turned so that more is better, against 0 or the margin."""
    metric = METRICS.get(config.metric)()
    pair = evidence.pairs.filter(metric=config.metric, subset=ALL).row(0, named=True)
    sign = 1 if (pair["model_a"] == CANDIDATE) == metric.larger_is_better else -1
    low, high = sorted((sign * pair["low"], sign * pair["high"]))
    limit = 0.0 if config.rule == "better" else -config.margin
    told = f"{metric.label} {sign * pair['difference']:+.4f} [{low:+.4f}, {high:+.4f}] for the candidate"
    return Gate(
        name=config.rule,
        passed=low > limit,
        said=f"{told}; the interval must lie above {limit:+.4f}",
    )


def _figure(evidence: Evidence, metric: str) -> float:
    row = evidence.leaderboard.filter(model=CANDIDATE, subset=ALL, metric=metric)
    return float(row["value"].item()) if row.height else float("nan")


def _calibration(evidence: Evidence, config: PromotionConfig) -> Iterator[Gate]:
    slope, (low, high) = _figure(evidence, "calibration_slope"), config.calibration_slope
    yield Gate(
        name="calibration slope",
        passed=low <= slope <= high,
        said=f"{slope:.3f}, must be {low:g} to {high:g}",
    )
    ece = _figure(evidence, "ece")
    yield Gate(
        name="calibration error",
        passed=ece <= config.ece,
        said=f"{ece:.4f}, must be at most {config.ece:g}",
    )


def _subgroups(evidence: Evidence, config: PromotionConfig) -> Gate:
    label = METRICS.get(config.metric)().label
    groups = evidence.leaderboard.filter(
        pl.col("subset").str.contains(":"), model=CANDIDATE, metric=config.metric
    ).filter(pl.col("value").is_not_nan())
    if groups.is_empty():
        return Gate(name="subgroups", passed=True, said=f"{label} is estimable in no subgroup")
    worst = groups.sort("value", "subset").row(0, named=True)
    said = f"least {label} {worst['value']:.3f} ({worst['subset']}), must be at least {config.subgroup_floor:g}"
    return Gate(name="subgroups", passed=worst["value"] >= config.subgroup_floor, said=said)


def _package(version: ModelVersion, config: PromotionConfig) -> Iterator[Gate]:
    """It loads, takes what every package takes, and answers in time."""
    try:
        model_package = model_registry.load_package(version)
        asked = example_tables()
        answer = model_package.predict(asked)
    except FlowsheetError as error:
        yield Gate(name="signature", passed=False, said=f"the package does not answer: {error}")
        return
    fits = answer.height > 0 and model_registry.has_current_signature(version)
    yield Gate(
        name="signature",
        passed=fits,
        said="raw events in, risks out" if fits else "other columns than ours",
    )
    seconds = []
    for _ in range(_TRIES):
        started = time.perf_counter()
        model_package.predict(asked)
        seconds.append(time.perf_counter() - started)
    took = 1000 * median(seconds)
    said = f"{took:.0f} ms for one stay, must be at most {config.latency_ms:g} ms"
    yield Gate(name="latency", passed=took <= config.latency_ms, said=said)
