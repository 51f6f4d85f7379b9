"""Challenger against champion: both judged on the champion's live requests, paired."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import polars as pl

from flowsheet.cohort.extract import Extract
from flowsheet.errors import CheckFailed
from flowsheet.evaluation.evidence import Evidence
from flowsheet.evaluation.metrics import get_metric
from flowsheet.evaluation.subset_names import describe_subset
from flowsheet.evaluation.summaries import BETTER, NOT_ESTIMABLE, SAME, WORSE
from flowsheet.lifecycle.deployment.evaluated_models import EvaluatedModel, load_models
from flowsheet.lifecycle.outcomes.answers import ChosenAnswers
from flowsheet.lifecycle.outcomes.judged_rows import JudgedRows, judge_rows
from flowsheet.lifecycle.outcomes.live_evidence import describe_evaluation, evaluate_rows
from flowsheet.state.hashing import digest
from flowsheet.tracking.evaluation_runs import LIVE, record_evaluation
from flowsheet.tracking.live_verdicts import LiveVerdict, record_verdict

_THAN = {BETTER: "than", WORSE: "than", SAME: "from", NOT_ESTIMABLE: "against"}


def judge_shadows(
    chosen: ChosenAnswers, extract: Extract, until: datetime | None
) -> tuple[tuple[LiveVerdict, ...], tuple[str, ...]]:
    """The verdict on each challenger against each champion, and why there is none on others.

    A challenger is tagged with one verdict: against the champion that answered last.
    """
    request = ["stay_id", "time", "answered_at", "request_id"]
    pairs = (
        chosen.shadows.join(
            chosen.answers.select(*request, champion="version"), on=request, how="inner"
        )
        .group_by("champion", challenger="version")
        .agg(last=pl.col("answered_at").max())
        .sort("last", "champion", "challenger")
        .drop("last")
    )
    verdicts, reasons = [], []
    for champion, challenger in pairs.iter_rows():
        try:
            verdicts.append(_judge_pair(chosen, champion, challenger, extract, until))
        except CheckFailed as error:
            reasons.append(
                f"version {challenger} is not compared with version {champion}: {error.what}"
            )
    return tuple(verdicts), tuple(reasons)


def _judge_pair(
    chosen: ChosenAnswers, champion: int, challenger: int, extract: Extract, until: datetime | None
) -> LiveVerdict:
    """Compare a challenger with the champion on the champion's requests, and tag it.

    Args:
        chosen: all answers that count.
        champion: version that answered.
        challenger: version that scored the same requests in the shadow.
        extract: the outcomes.
        until: when the record ends.
    """
    models = [  # under names of their own, so that a floor model is compared like any other
        replace(model, name=f"{model.home_name} ({model.version.reference})")
        for model in load_models([f"{chosen.model}/{n}" for n in (champion, challenger)])
    ]
    answers = {
        models[0].name: chosen.answers.filter(version=champion),
        models[1].name: chosen.shadows.filter(version=challenger),
    }
    rows = judge_rows(models, answers, chosen, extract, until)
    stage, evidence = evaluate_rows(models, rows)
    verdict = _conclude(models, rows, evidence, extract)
    version = models[1].version
    differences = {
        f"{LIVE}.difference.{metric}{suffix}": number
        for metric, numbers in verdict.differences.items()
        for suffix, number in zip(("", ".low", ".high"), numbers, strict=True)
    }
    run_id = record_evaluation(
        version,
        digest([stage.key, version.reference, extract.fingerprint, "shadow"]),
        describe_evaluation(models[1], rows, evidence, extract, verdict.summary),
        {**evidence.metrics(models[1].name, part=LIVE), **differences},
        {"evidence": stage.folder},
    )
    verdict = verdict.model_copy(update={"run_id": run_id})
    record_verdict(version, verdict)
    return verdict


def _conclude(
    models: Sequence[EvaluatedModel], rows: JudgedRows, evidence: Evidence, extract: Extract
) -> LiveVerdict:
    """The verdict by the metric and the rows that rank models.

    Args:
        models: champion and challenger.
        rows: the judged rows.
        evidence: of both.
        extract: the outcomes.
    """
    champion, challenger = models
    subset, metric = evidence.ranking_subset, evidence.about["metric"]
    differences = {}
    estimable = pl.col("low").is_not_nan()
    for pair in evidence.pairs.filter(estimable, subset=subset).iter_rows(named=True):
        favours_first = get_metric(pair["metric"]).larger_is_better
        sign = 1 if (pair["model_a"] == challenger.name) == favours_first else -1
        low, high = sorted((sign * pair["low"], sign * pair["high"]))
        differences[pair["metric"]] = (sign * pair["difference"], low, high)
    difference, low, high = differences.get(metric, (math.nan,) * 3)
    if math.isnan(low):
        verdict, numbers = NOT_ESTIMABLE, "too few data for an interval"
    else:
        verdict = BETTER if low > 0 else WORSE if high < 0 else SAME
        numbers = f"difference {difference:+.4f} [{low:+.4f}, {high:+.4f}] for the challenger"
    counts = evidence.leaderboard.filter(subset=subset).row(0, named=True)
    label = get_metric(metric).label + describe_subset(subset, evidence.words)
    return LiveVerdict(
        champion=champion.version.version,
        challenger=challenger.version.version,
        subset=subset,
        differences=differences,
        metric=metric,
        verdict=verdict,
        summary=(
            f"On {counts['rows']:,} live predictions of {counts['subjects']:,} subjects version "
            f"{challenger.version.version} is {verdict} {_THAN[verdict]} version "
            f"{champion.version.version} by {label}: {numbers}."
        ),
        rows=counts["rows"],
        subjects=counts["subjects"],
        first=rows.first,
        last=rows.last,
        extract=extract.fingerprint,
    )
