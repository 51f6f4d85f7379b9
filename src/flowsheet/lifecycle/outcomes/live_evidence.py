"""The evidence of judged answers, and what is recorded with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import polars as pl

from flowsheet.cohort.extract import Extract
from flowsheet.evaluation.evidence import Evidence
from flowsheet.evaluation.metrics import get_metric
from flowsheet.evaluation.subsets import ALL, STAYS
from flowsheet.evaluation.summaries import format_estimate
from flowsheet.lifecycle.deployment.evaluated_models import EvaluatedModel
from flowsheet.lifecycle.deployment.external_evaluation import run_evaluation
from flowsheet.lifecycle.experiment.stage import Stage
from flowsheet.lifecycle.outcomes.judged_rows import JudgedRows
from flowsheet.tracking.evaluation_runs import EvaluationDetails

_UTILITY = "normalised_utility"
_ALERT_METRICS = ("alerts_per_patient_day", "alert_ppv", "episodes_detected", "lead_time")


def evaluate_rows(models: Sequence[EvaluatedModel], rows: JudgedRows) -> tuple[Stage, Evidence]:
    """Stage and evidence; without the utility, which is of whole stays, if steps are missing."""
    fallback = {} if rows.is_complete else {_UTILITY: "auroc"}
    stage = run_evaluation(models, rows.predictions, fallback=fallback)
    evidence = Evidence.load(stage.folder)
    if rows.is_complete:
        return stage, evidence
    is_kept = ~pl.col("metric").str.starts_with(_UTILITY)
    return stage, replace(
        evidence,
        leaderboard=evidence.leaderboard.filter(is_kept),
        pairs=evidence.pairs.filter(is_kept),
        new_onset_subgroups=evidence.new_onset_subgroups.filter(is_kept),
    )


def describe_evaluation(
    model: EvaluatedModel, rows: JudgedRows, evidence: Evidence, extract: Extract, summary: str
) -> EvaluationDetails:
    """What is recorded with the evaluation of a version.

    Args:
        model: the version.
        rows: the judged rows.
        evidence: of them.
        extract: the outcomes.
        summary: the result in words.
    """
    scored = rows.predictions.rows.filter("scored")
    return EvaluationDetails(
        version=model.version.reference,
        source=extract.manifest.source.name,
        extract=extract.fingerprint,
        is_home=extract.fingerprint == model.development.extract,
        stays=scored["stay_id"].n_unique(),
        subjects=scored["subject_id"].n_unique(),
        ranking_subset=evidence.ranking_subset,
        metric=evidence.about["metric"],
        summary=summary,
        kind="answers",
        period=f"{rows.first:%Y-%m-%d} to {rows.last:%Y-%m-%d}",
    )


def describe_alerts(evidence: Evidence, model: str) -> str:
    """What the model's alerts were worth, with intervals, in words."""
    parts = []
    for metric in _ALERT_METRICS:
        rows = evidence.leaderboard.filter(model=model, metric=metric)
        for subset in (ALL, STAYS):
            for row in rows.filter(subset=subset).head(1).iter_rows(named=True):
                estimate = format_estimate(
                    row["value"], row["low"], row["high"], get_metric(metric).decimals
                )
                parts.append(f"{get_metric(metric).label} {estimate}")
    return "; ".join(dict.fromkeys(parts)) or "the model raises no alerts"
