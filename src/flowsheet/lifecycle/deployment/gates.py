"""The gates of a promotion: checks that a model version must pass to become the champion."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median

import polars as pl

from flowsheet.config import EvaluationConfig, FrozenModel, PromotionConfig, TaskConfig
from flowsheet.errors import CheckFailed, FlowsheetError
from flowsheet.evaluation.evidence import Evidence
from flowsheet.evaluation.metrics import get_metric
from flowsheet.evaluation.subset_names import describe_subset
from flowsheet.evaluation.subsets import ALL, TIME_GROUPING
from flowsheet.lifecycle.deployment.candidates import (
    Candidate,
    check_same_task,
    has_same_rows,
    load_candidate,
)
from flowsheet.lifecycle.deployment.held_out import (
    PairedPredictions,
    SeenSubjects,
    judge_alone,
    pair_common,
    pair_recorded,
    score_with_champion,
)
from flowsheet.lifecycle.experiment.evaluate import evaluate_predictions
from flowsheet.lifecycle.experiment.predictions import Predictions
from flowsheet.prediction.input_rows import example_tables
from flowsheet.tracking import registered_packages
from flowsheet.tracking.decisions import JudgedRows
from flowsheet.tracking.evaluation_runs import PART, list_evaluations
from flowsheet.tracking.live_verdicts import find_verdict
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
    rows: JudgedRows | None = None
    """Of the gate ``rows``: what is judged."""


def evaluate_gates(
    version: ModelVersion, champion_version: ModelVersion | None, config: PromotionConfig
) -> tuple[GateResult, ...]:
    """Evaluate every gate for a version; without a champion, the comparing gates pass.

    Models of state tasks are compared by new onsets (patients who are not in the state at the
    prediction) where the metric can be estimated on them, and so are their subgroups; the figures
    of all rows are beside. Calibration is judged by all rows unless ``calibration_rows`` asks
    otherwise.

    Args:
        version: the candidate.
        champion_version: the champion to compare with, if there is one.
        config: the gates' limits.

    Raises:
        CheckFailed: the candidate's run has no predictions.
    """
    with tempfile.TemporaryDirectory() as temporary:
        candidate = load_candidate(version.reference, Path(temporary) / CANDIDATE)
        rows, paired = _pair(candidate, champion_version, config, Path(temporary))
    evidence = _evaluate(paired.predictions, candidate, config)
    if CHAMPION in paired.predictions.models:
        comparison = _check_comparison(evidence, config)
    else:
        reason = "not compared: see rows" if champion_version else "there is no champion yet"
        passed = champion_version is None
        comparison = GateResult(name=config.rule, passed=passed, summary=reason)
    return (
        rows,
        comparison,
        *_check_calibration(evidence, config),
        _check_subgroups(evidence, paired.predictions, candidate, config),
        *_check_external(version, config),
        *check_live(version, champion_version, config),
        *_check_package(version, config),
    )


def _pair(
    candidate: Candidate, champion: ModelVersion | None, config: PromotionConfig, folder: Path
) -> tuple[GateResult, PairedPredictions]:
    """The gate ``rows``, and the predictions of the candidate and, if it passed, the champion.

    Args:
        candidate: the candidate.
        champion: the champion, if there is one.
        config: the share of subjects that may be left out.
        folder: for downloaded files.
    """
    alone = judge_alone(candidate, CANDIDATE)
    if champion is None:
        summary = f"there is no champion to compare with; judged: {alone.rows.summary}"
        return GateResult(name="rows", passed=True, summary=summary, rows=alone.rows), alone
    try:
        paired = _pair_with_champion(candidate, champion, config, folder)
    except CheckFailed as error:
        return GateResult(name="rows", passed=False, summary=error.what, rows=alone.rows), alone
    summary = f"{paired.rows.summary}: {paired.how}"
    return GateResult(name="rows", passed=True, summary=summary, rows=paired.rows), paired


def _pair_with_champion(
    candidate: Candidate, version: ModelVersion, config: PromotionConfig, folder: Path
) -> PairedPredictions:
    """The predictions of both for the same rows.

    A champion that this release cannot load is judged by its recorded predictions of the rows in
    common.

    Args:
        candidate: the candidate.
        version: the champion.
        config: the share of subjects that may be left out.
        folder: for downloaded files.

    Raises:
        CheckFailed: the tasks differ, or there are no such rows.
    """
    names = (CANDIDATE, CHAMPION)
    champion = load_candidate(version.reference, folder / CHAMPION)
    check_same_task(champion, candidate)
    if has_same_rows(champion, candidate):
        return pair_recorded(candidate, champion, names)
    try:
        return score_with_champion(candidate, version, names, config.max_seen_share)
    except SeenSubjects:
        raise
    except CheckFailed as error:
        return _pair_common(candidate, champion, error)


def _pair_common(
    candidate: Candidate, champion: Candidate, error: CheckFailed
) -> PairedPredictions:
    """The recorded predictions of the rows in common; ``error``: why the champion cannot score."""
    try:
        paired = pair_common(candidate, champion, (CANDIDATE, CHAMPION))
    except CheckFailed as no_rows:
        raise CheckFailed(
            f"the champion cannot score today's held-out rows: {error.what}; and {no_rows.what}",
            where=no_rows.where,
            todo=error.todo,
        ) from error
    how = f"{paired.how}; the champion cannot score the others: {error.what}"
    return replace(paired, how=how)


def _evaluate(
    predictions: Predictions,
    candidate: Candidate,
    config: PromotionConfig,
    resamples: int | None = None,
) -> Evidence:
    """The evidence of the predictions, with the gates' metric and intervals.

    Args:
        predictions: of the candidate, and of the champion where it is compared.
        candidate: its recorded evaluation, task and seed are used.
        config: metric, resamples and confidence.
        resamples: another number of resamples.
    """
    recorded = candidate.record.config
    evaluation = candidate.record.read_config("evaluation", EvaluationConfig).model_copy(
        update={
            "metric": config.metric,
            "resamples": config.resamples if resamples is None else resamples,
            "confidence": config.confidence,
        }
    )
    task = candidate.record.read_config("task", TaskConfig)
    return evaluate_predictions(predictions, task, evaluation, int(recorded["seed"]))


def _check_comparison(evidence: Evidence, config: PromotionConfig) -> GateResult:
    """The interval of the paired difference must lie above 0, or above minus the margin."""
    low, text = _describe_difference(evidence, config, evidence.ranking_subset)
    limit = 0.0 if config.rule == "better" else -config.margin
    summary = f"{text} for the candidate; the interval must lie above {limit:+.4f}"
    if evidence.ranking_subset != ALL:
        summary += f"; all rows: {_describe_difference(evidence, config, ALL)[1]}"
    return GateResult(name=config.rule, passed=low > limit, summary=summary)


def _describe_difference(
    evidence: Evidence, config: PromotionConfig, subset: str
) -> tuple[float, str]:
    """Lower bound of the difference (NaN: not estimable), and the difference in words.

    It is signed so that positive values favour the candidate.

    Args:
        evidence: of candidate and champion.
        config: the metric.
        subset: the rows.
    """
    metric = get_metric(config.metric)
    label = metric.label + describe_subset(subset, evidence.words)
    pairs = evidence.pairs.filter(metric=config.metric, subset=subset)
    if pairs.is_empty() or math.isnan(pairs["low"].item()):
        return math.nan, f"{label}: too few data for an interval"
    pair = pairs.row(0, named=True)
    sign = 1 if (pair["model_a"] == CANDIDATE) == metric.larger_is_better else -1
    low, high = sorted((sign * pair["low"], sign * pair["high"]))
    return low, f"{label} {sign * pair['difference']:+.4f} [{low:+.4f}, {high:+.4f}]"


def _check_calibration(evidence: Evidence, config: PromotionConfig) -> Iterator[GateResult]:
    slope, beside = _get_metric(evidence, config, "calibration_slope", "{:.3f}")
    low, high = config.calibration_slope
    yield GateResult(
        name="calibration slope",
        passed=low <= slope <= high,
        summary=f"{beside}, must be {low:g} to {high:g}",
    )
    ece, beside = _get_metric(evidence, config, "ece", "{:.4f}")
    yield GateResult(
        name="calibration error",
        passed=ece <= config.ece,
        summary=f"{beside}, must be at most {config.ece:g}",
    )


def _get_metric(
    evidence: Evidence, config: PromotionConfig, metric: str, form: str
) -> tuple[float, str]:
    """The candidate's metric on the rows that calibration is judged by (NaN: not estimable).

    Args:
        evidence: of the candidate.
        config: the rows.
        metric: name of the metric.
        form: format of the value.

    Returns:
        The value, and in words with that of the other rows beside.
    """
    values = {}
    for subset in (evidence.ranking_subset, ALL):
        row = evidence.leaderboard.filter(model=CANDIDATE, subset=subset, metric=metric)
        values[subset] = float(row["value"].item()) if row.height else math.nan
    judged = ALL if config.calibration_rows == "all" else evidence.ranking_subset
    text = form.format(values[judged]) + describe_subset(judged, evidence.words)
    for subset, value in values.items():
        if subset != judged:
            phrase = describe_subset(subset, evidence.words) or " over all rows"
            text += f" ({form.format(value)}{phrase})"
    return values[judged], text


def _check_subgroups(
    evidence: Evidence, predictions: Predictions, candidate: Candidate, config: PromotionConfig
) -> GateResult:
    """The least value of the metric in any subgroup, on the rows that rank models.

    Args:
        evidence: of the predictions.
        predictions: of the candidate, and of the champion where it is compared.
        candidate: the candidate.
        config: metric and limit.
    """
    phrase = describe_subset(evidence.ranking_subset, evidence.words)
    if evidence.ranking_subset != ALL:  # subgroups are of all scored rows
        alone = predictions.select_models({CANDIDATE: CANDIDATE})
        rows = alone.rows.with_columns(pl.col("scored") & ~pl.col("in_state"))
        evidence = _evaluate(replace(alone, rows=rows), candidate, config, resamples=0)
    label = get_metric(config.metric).label + phrase
    is_time = pl.col("subset").str.starts_with(TIME_GROUPING)
    is_subgroup = pl.col("subset").str.contains(":") & ~is_time
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


def _check_external(version: ModelVersion, config: PromotionConfig) -> Iterator[GateResult]:
    """Whether the version was evaluated on other extracts, and well enough, where this is asked."""
    if not config.external_evaluations:
        return
    values = {}
    for evaluation in list_evaluations(version):
        details = evaluation.details
        subset = "" if details.ranking_subset == ALL else f"{details.ranking_subset}."
        if details.kind == "extract" and not details.is_home:
            value = evaluation.metrics.get(f"{PART}.{subset}{config.metric}", math.nan)
            values[details.extract] = (value, details.source)
    lowest, source = min(values.values(), key=lambda v: (v[0] >= v[0], v[0]), default=(0.0, ""))
    found = f"{len(values)} other extracts, {config.external_evaluations} are needed"
    label = get_metric(config.metric).label
    least = f"; lowest {label} {lowest:.3f} ({source})" if values else ""
    yield GateResult(
        name="external evaluation",
        passed=len(values) >= config.external_evaluations and lowest >= config.external_floor,
        summary=f"{found}{least}, must be at least {config.external_floor:g}",
    )


def check_live(
    version: ModelVersion, champion: ModelVersion | None, config: PromotionConfig
) -> Iterator[GateResult]:
    """How the version did in the champion's shadow, where this is asked.

    Args:
        version: the candidate.
        champion: the champion, if there is one.
        config: metric and limit.
    """
    if config.live_verdict is None:
        return
    verdict = find_verdict(version)
    low = math.nan
    if champion is None:
        summary = "there is no champion to shadow"
    elif verdict is None:
        summary = "there is no verdict on the candidate: `flowsheet outcomes` gives one, after "
        summary += "`flowsheet serve --shadow`"
    elif verdict.champion != champion.version:
        summary = f"the verdict is against version {verdict.champion}, which is not the champion"
    elif config.metric not in verdict.differences:
        summary = f"the verdict says nothing about {config.metric}"
    else:
        difference, low, high = verdict.differences[config.metric]
        limit = 0.0 if config.live_verdict == "better" else -config.margin
        summary = (
            f"{get_metric(config.metric).label} {difference:+.4f} [{low:+.4f}, {high:+.4f}] for "
            f"the candidate on {verdict.rows:,} live predictions of {verdict.subjects:,} subjects; "
            f"the interval must lie above {limit:+.4f}"
        )
        low -= limit
    yield GateResult(name="live verdict", passed=champion is None or low > 0, summary=summary)


def _check_package(version: ModelVersion, config: PromotionConfig) -> Iterator[GateResult]:
    """The package loads, has this release's signature, and predicts fast enough."""
    tables = example_tables()
    try:
        model_package = registered_packages.load_package(version)
        predictions = model_package.predict(tables)
    except FlowsheetError as error:
        yield GateResult(
            name="signature", passed=False, summary=f"the package does not predict: {error}"
        )
        return
    valid = predictions.height > 0 and registered_packages.has_current_signature(version)
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
