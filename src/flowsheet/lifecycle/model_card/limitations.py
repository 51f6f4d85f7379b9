"""Limitations of a model, found in its record by rules; there are no general disclaimers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import polars as pl

from flowsheet.config import Protocol
from flowsheet.evaluation.metrics import get_metric
from flowsheet.evaluation.study.facts import MIN_EVENTS_PER_COLUMN
from flowsheet.evaluation.subset_names import describe_subset
from flowsheet.evaluation.subsets import ALL, NEW_ONSETS
from flowsheet.evaluation.summaries import BETTER, SAME, join_names
from flowsheet.lifecycle.model_card.facts import ModelFacts

_MIN_EVENTS = 100
"""Fewer held-out events make the metrics imprecise: the common advice for validating a risk model
is 100 events or more (Collins, Ogundimu, Altman, Statistics in Medicine 2016)."""
_MIN_SLOPE = 0.8
_MAX_SLOPE = 1.25
_MAX_QUARANTINED_SHARE = 0.01
_MIN_SELECTED_SHARE = 0.5


def find_limitations(facts: ModelFacts) -> list[str]:
    """Sentences about the model's limitations, the most serious first."""
    rules = (
        _data,
        _generalisation,
        _sample_size,
        _events,
        _persistence,
        _calibration,
        _subgroups,
        _other_models,
        _bedside_scores,
        _code,
    )
    sentences = [sentence for rule in rules for sentence in rule(facts)]
    return sentences or ["None of the limitations that are checked for applies."]


def _leaderboard_row(facts: ModelFacts, metric: str, subset: str = ALL) -> dict[str, Any] | None:
    rows = facts.evidence.leaderboard.filter(model=facts.model, metric=metric, subset=subset)
    return rows.row(0, named=True) if rows.height else None


def _is_simulated(facts: ModelFacts) -> bool:
    return bool(facts.record.config["cohort"]["source"] == "simulated")


def _data(facts: ModelFacts) -> Iterator[str]:
    if _is_simulated(facts):
        yield (
            "The patients are simulated: the metrics do not apply to real patients, and the model "
            "must not be used on them."
        )
    if facts.manifest is None:
        yield "The record does not say how the cohort was selected."
        return
    yield from facts.manifest.warnings
    for table, share in facts.manifest.quarantined_share.items():
        if share > _MAX_QUARANTINED_SHARE:
            yield f"{share:.1%} of the rows of {table} failed validation and were quarantined."
    steps = facts.manifest.attrition
    if len(steps) > 1:
        all_stays = steps[0][1]
        selected = steps[-1][1]
        if selected < _MIN_SELECTED_SHARE * all_stays:
            yield (
                f"Only {selected:,} of {all_stays:,} stays are in the cohort: see its selection "
                "for the patients who are not."
            )


def _generalisation(facts: ModelFacts) -> Iterator[str]:
    protocol = facts.evaluation.protocol
    if protocol is Protocol.site or _is_simulated(facts):
        return
    entries = facts.manifest.prevalence_of(facts.task.response) if facts.manifest else ()
    sites = [entry for entry in entries if entry.by == "site"]
    place = f"the same {len(sites)} sites" if len(sites) > 1 else "the same place"
    period = "" if protocol is Protocol.temporal else " and years"
    yield (
        f"The held-out patients come from {place}{period} as the training patients: the model is "
        "untested elsewhere."
    )


def _sample_size(facts: ModelFacts) -> Iterator[str]:
    size = facts.study.sample_size if facts.study else None
    if size and size.is_small:
        yield (
            f"It was trained with {size.events_per_column:.1f} events per input column, fewer than "
            f"{MIN_EVENTS_PER_COLUMN} (see Training data)."
        )


def _bedside_scores(facts: ModelFacts) -> Iterator[str]:
    if facts.study and not facts.study.bedside_scores:
        yield facts.study.comparison


def _events(facts: ModelFacts) -> Iterator[str]:
    new_onsets = _leaderboard_row(facts, facts.evaluation.metric, NEW_ONSETS)
    row = new_onsets or _leaderboard_row(facts, facts.evaluation.metric)
    if row and row["events"] < _MIN_EVENTS:
        rows = "new onsets" if new_onsets else "held-out rows with the event"
        yield f"The metrics are based on {row['events']:,} {rows}, fewer than {_MIN_EVENTS}."
    if not facts.evidence.about["resamples"]:
        yield "No confidence intervals were computed."


def _persistence(facts: ModelFacts) -> Iterator[str]:
    """Where the response is a state, good metrics may mostly come from its persistence."""
    metric = facts.evaluation.metric
    all_rows = _leaderboard_row(facts, metric)
    new_onsets = _leaderboard_row(facts, metric, NEW_ONSETS)
    if not all_rows or not new_onsets:
        return
    label, words = get_metric(metric).label, facts.evidence.words
    if math.isnan(new_onsets["value"]):
        yield (
            f"Its {label} for patients who are not {words.state} yet is not estimable "
            f"({new_onsets['reason']}): over all rows, history alone predicts that "
            f"{words.name} persists."
        )
    elif new_onsets["high"] < all_rows["low"]:
        yield (
            f"For patients who are not {words.state} yet, it is less accurate than over all rows: "
            f"{label} {new_onsets['value']:.3f} for new onsets, {all_rows['value']:.3f} over all "
            "rows."
        )


def _calibration(facts: ModelFacts) -> Iterator[str]:
    row = _leaderboard_row(facts, "calibration_slope")
    advice = "Recalibrate it before its probabilities are read as risks."
    if row is None or row["value"] != row["value"]:
        yield f"The calibration slope is not estimable. {advice}"
    elif row["value"] < _MIN_SLOPE:
        yield (
            f"The calibration slope is {row['value']:.2f}: high risks are overestimated, low "
            f"risks underestimated. {advice}"
        )
    elif row["value"] > _MAX_SLOPE:
        yield (
            f"The calibration slope is {row['value']:.2f}: risks are too close to the mean. "
            f"{advice}"
        )


def _subgroups(facts: ModelFacts) -> Iterator[str]:
    metric = facts.evaluation.metric
    groups = facts.evidence.leaderboard.filter(
        pl.col("subset").str.contains(":"), model=facts.model, metric=metric
    )
    if groups.is_empty():
        yield "Performance in subgroups of patients was not evaluated."
        return
    not_estimable = groups.filter(pl.col("value").is_nan())["subset"].to_list()
    if not_estimable:
        yield f"Subgroups with too few events to evaluate: {', '.join(not_estimable)}."
    all_rows = _leaderboard_row(facts, metric)
    if all_rows is None:
        return
    is_below = pl.col("high") < all_rows["low"]
    is_above = pl.col("low") > all_rows["high"]
    is_worse = is_below if get_metric(metric).larger_is_better else is_above
    label = get_metric(metric).label
    for row in groups.filter(is_worse).to_dicts():
        yield (
            f"It is worse for {row['subset']}: {label} {row['value']:.3f}, "
            f"over all {all_rows['value']:.3f}."
        )


def _other_models(facts: ModelFacts) -> Iterator[str]:
    metric, words = facts.evaluation.metric, facts.evidence.words
    phrase = describe_subset(facts.evidence.ranking_subset, words)
    label = get_metric(metric).label + phrase
    pairs = facts.evidence.pairs.filter(metric=metric, subset=facts.evidence.ranking_subset)
    better = pairs.filter(model_b=facts.model, verdict=BETTER)["model_a"].to_list()
    if better:
        names = _join_titles(facts, better)
        yield f"In its experiment, it is worse than {names} by {label}."
    involves_model = pl.any_horizontal(pl.col("model_a", "model_b") == facts.model)
    similar = [
        pair["model_b"] if pair["model_a"] == facts.model else pair["model_a"]
        for pair in pairs.filter(involves_model, verdict=SAME).to_dicts()
    ]
    if similar:
        names = _join_titles(facts, similar)
        yield f"In its experiment, it is not distinguishable from {names} by {label}."


def _join_titles(facts: ModelFacts, models: list[str]) -> str:
    titles = facts.evidence.titles
    return join_names(sorted(titles[model] for model in set(models)))


def _code(facts: ModelFacts) -> Iterator[str]:
    if facts.record.code.get("changed", "").lower() == "true":
        yield (
            "It was trained with uncommitted changes to the code: the commit alone does not "
            "reproduce it."
        )
