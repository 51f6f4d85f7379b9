"""What the record says against a model: every line is a finding, none is said of all models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl

from flowsheet.config import Protocol
from flowsheet.evaluation.metrics import METRICS
from flowsheet.evaluation.subsets import ALL, NEW_ONSETS
from flowsheet.evaluation.summaries import BETTER, SAME
from flowsheet.lifecycle.model_card.facts import Facts

_FEW_EVENTS = 100
"""Below it a held-out sample says little: the common advice for validating a risk model is 100
events or more (Collins, Ogundimu, Altman, Statistics in Medicine 2016)."""
_SLOPE = (0.8, 1.25)


def limits(facts: Facts) -> list[str]:
    """Sentences, the graver ones first."""
    found = [
        line
        for rule in (
            _data,
            _generalisation,
            _events,
            _persistence,
            _calibration,
            _subgroups,
            _rivals,
            _record,
        )
        for line in rule(facts)
    ]
    return found or ["The record shows none of the limits that are looked for."]


def _row(facts: Facts, metric: str, subset: str = ALL) -> dict[str, Any] | None:
    rows = facts.evidence.leaderboard.filter(model=facts.model, metric=metric, subset=subset)
    return rows.row(0, named=True) if rows.height else None


def _data(facts: Facts) -> Iterator[str]:
    source = facts.record.config["cohort"]["source"]
    if source == "simulated":
        yield "Its patients are simulated: it says nothing about real ones and must not be used on them."
    if facts.manifest is None:
        yield "How the cohort was selected is not in the record."
        return
    for table, share in facts.manifest.quarantined_share.items():
        if share > 0.01:
            yield f"{share:.1%} of the rows of {table} broke a rule of the contract and were set aside."
    steps = facts.manifest.attrition
    if len(steps) > 1 and steps[-1][1] < 0.5 * steps[0][1]:
        yield f"Only {steps[-1][1]:,} of {steps[0][1]:,} stays are in the cohort: see its attrition for who is not."


def _generalisation(facts: Facts) -> Iterator[str]:
    sites = [e for e in facts.manifest.prevalence if e.by == "site"] if facts.manifest else []
    kept = facts.evaluation.protocol
    if kept is Protocol.site or facts.record.config["cohort"]["source"] == "simulated":
        return
    where = f"the same {len(sites)} sites" if len(sites) > 1 else "the same place"
    when = "" if kept is Protocol.temporal else " and years"
    yield f"The held-out patients come from {where}{when} as those it learned from: elsewhere it is untested."


def _events(facts: Facts) -> Iterator[str]:
    row = _row(facts, facts.evaluation.metric)
    if row and row["events"] < _FEW_EVENTS:
        yield f"The figures rest on {row['events']:,} held-out rows with the event, fewer than {_FEW_EVENTS}."
    if not facts.evidence.about["resamples"]:
        yield "No intervals were computed."


def _persistence(facts: Facts) -> Iterator[str]:
    """With a state as response, most of what is predicted may be that it goes on."""
    metric = facts.evaluation.metric
    every, entering = _row(facts, metric), _row(facts, metric, NEW_ONSETS)
    if every and entering and entering["high"] < every["low"]:
        label = METRICS.get(metric).label
        yield (
            f"Of patients who are not septic yet it knows less than the headline says: {label} {entering['value']:.3f} "
            f"among new onsets, {every['value']:.3f} over all rows."
        )


def _calibration(facts: Facts) -> Iterator[str]:
    row = _row(facts, "calibration_slope")
    if row is None or not _SLOPE[0] <= row["value"] <= _SLOPE[1]:
        said = (
            "is not estimable"
            if row is None or row["value"] != row["value"]
            else f"is {row['value']:.2f}"
        )
        kind = ""
        if row and row["value"] < _SLOPE[0]:
            kind = ": high risks are overstated, low ones understated"
        elif row and row["value"] > _SLOPE[1]:
            kind = ": risks are drawn too far towards the mean"
        yield f"The calibration slope {said}{kind}. Do not read its probabilities as risks without recalibration."


def _subgroups(facts: Facts) -> Iterator[str]:
    metric = facts.evaluation.metric
    every = _row(facts, metric)
    groups = facts.evidence.leaderboard.filter(
        pl.col("subset").str.contains(":"), model=facts.model, metric=metric
    )
    if groups.is_empty():
        yield "Whether it serves some groups of patients worse than others was not looked at."
        return
    unknown = groups.filter(pl.col("value").is_nan())["subset"].to_list()
    if unknown:
        yield f"Too few events to tell anything of: {', '.join(unknown)}."
    if every:
        larger = METRICS.get(metric).larger_is_better
        worse = pl.col("high") < every["low"] if larger else pl.col("low") > every["high"]
        for row in groups.filter(worse).to_dicts():
            label = METRICS.get(metric).label
            yield f"It is worse for {row['subset']}: {label} {row['value']:.3f}, over all {every['value']:.3f}."


def _rivals(facts: Facts) -> Iterator[str]:
    metric = facts.evaluation.metric
    pairs = facts.evidence.pairs.filter(metric=metric, subset=ALL)
    better = pairs.filter(model_b=facts.model, verdict=BETTER)["model_a"].to_list()
    alike = [
        pair["model_b"] if pair["model_a"] == facts.model else pair["model_a"]
        for pair in pairs.filter(
            pl.any_horizontal(pl.col("model_a", "model_b") == facts.model), verdict=SAME
        ).to_dicts()
    ]
    for names, words in ((better, "is worse than"), (alike, "cannot be told apart from")):
        if names:
            said = ", ".join(sorted(set(names)))
            yield f"In its experiment it {words} {said} by {METRICS.get(metric).label}."


def _record(facts: Facts) -> Iterator[str]:
    if facts.record.code.get("changed", "").lower() == "true":
        yield "It was made by code that was changed since its commit: the commit alone does not make it again."
