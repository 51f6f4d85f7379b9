"""The first screen: what the chosen model would do at the bedside, and for whom it is worse."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import polars as pl

from flowsheet.config import TaskConfig
from flowsheet.evaluation.alert_judgement import AlertJudgement
from flowsheet.evaluation.evidence import Evidence
from flowsheet.evaluation.metrics import Metric, get_metric
from flowsheet.evaluation.subset_names import describe_group
from flowsheet.evaluation.subsets import ALL, NEW_ONSETS, STAYS
from flowsheet.evaluation.summaries import format_estimate, join_names

PUBLISHABLE_RESAMPLES = 1000
"""With fewer, the ends of an interval vary visibly from seed to seed."""
MAX_REASONS = 5
LEAST_SHARE = 0.02
"""Of all contributions to the risks; what adds less is not named."""
NEVER = 1.0
"""Thresholds above it raise no alert."""


class Tile(NamedTuple):
    """One figure of the first screen."""

    label: str
    value: str
    note: str


@dataclass(frozen=True)
class Bedside:
    """The answer to: which model, for whom, and what would it do."""

    model: str
    population: str
    tiles: list[Tile]
    sentences: list[str]
    warnings: list[str]


class TimeUnit(NamedTuple):
    """The unit that people use for a task's times."""

    hours: float
    singular: str

    @property
    def plural(self) -> str:
        """E.g. "days"."""
        return f"{self.singular}s"

    def describe(self, hours: float) -> str:
        """A duration.

        >>> TimeUnit(24.0, "day").describe(24.0), TimeUnit(1.0, "hour").describe(5.0)
        ('1 day', '5 hours')
        """
        number = round(hours / self.hours, 1)
        return f"{number:g} {self.singular if number == 1 else self.plural}"


def time_unit(task: TaskConfig | None) -> TimeUnit:
    """Days where a step is a day or longer, else hours."""
    is_daily = task is not None and task.step_hours >= 24
    return TimeUnit(24.0, "day") if is_daily else TimeUnit(1.0, "hour")


def make_bedside(
    evidence: Evidence, task: TaskConfig | None, importance: pl.DataFrame | None = None
) -> Bedside:
    """The first screen of the model that ranks first.

    Args:
        evidence: with the models' titles.
        task: the question.
        importance: label and share of what the model's risks follow from, the largest first.
    """
    subset = NEW_ONSETS if NEW_ONSETS in evidence.about["subsets"] else ALL
    model = evidence.models[0]
    table = _Values(evidence, model)
    who = f"patients who are not {evidence.words.state} when the prediction is made"
    return Bedside(
        model=model,
        population=who if subset == NEW_ONSETS else "all predictions",
        tiles=list(_make_tiles(table, subset, task)),
        sentences=[*_describe_reasons(importance), *_write_sentences(table, subset)],
        warnings=list(_write_warnings(table, subset)),
    )


@dataclass(frozen=True)
class _Values:
    """The leaderboard of one model."""

    evidence: Evidence
    model: str

    def find(self, subset: str, metric: str) -> dict[str, Any] | None:
        """The value with its interval and counts; None where it is not estimable."""
        rows = self.evidence.leaderboard.filter(subset=subset, metric=metric, model=self.model)
        if rows.is_empty() or math.isnan(rows["value"][0]):
            return None
        return rows.row(0, named=True)


def _make_tiles(values: _Values, subset: str, task: TaskConfig | None) -> Iterator[Tile]:
    yield from _alert_tiles(values, subset, task)
    unit = time_unit(task)
    found = values.find(STAYS, "episodes_detected")
    if found:
        note = f"of {found['events']:,} onsets have an earlier alert {_percent_interval(found)}"
        yield Tile("Onsets found", f"{found['value']:.0%}", note)
    lead = values.find(STAYS, "lead_time")
    if lead:
        note = "median time from the first alert to onset"
        yield Tile("How early", unit.describe(lead["value"]), note)
    slope = values.find(subset, "calibration_slope")
    if slope:
        note = f"slope, 1 is ideal {_interval(slope, 2)}"
        yield Tile("Calibration", f"{slope['value']:.2f}", note)


def _raised_tiles(judged: AlertJudgement, event: str) -> Iterator[Tile]:
    """The alerts that are raised, where others are silenced; ``event`` is what they are about."""
    rate, ppv = judged.alerts_per_day, judged.ppv
    if rate.value is not None:
        interval = "" if rate.low is None else f"[{rate.low:.2g}, {rate.high:.2g}] "
        note = f"{interval}raised per patient-day; repeated ones are silenced"
        yield Tile("Alerts", f"{rate.value:.2g} per day", note)
    if ppv.value is not None:
        note = f"of the raised alerts have {event} in their window [{ppv.low:.0%}, {ppv.high:.0%}]"
        yield Tile("Right alerts", f"{ppv.value:.0%}", note)


def _alert_tiles(values: _Values, subset: str, task: TaskConfig | None) -> Iterator[Tile]:
    judged = values.evidence.alerts.get(values.model)
    if judged and judged.has_silence:
        yield from _raised_tiles(judged, values.evidence.words.name)
        return
    share = values.find(subset, "alert_share")
    if share and share["value"] > 0:
        per_day = 24 / task.step_hours if task and task.at_hours is None else None
        threshold = values.evidence.about["thresholds"].get(values.model)
        at = f", at a threshold of {threshold:.0%} risk" if threshold is not None else ""
        yield Tile("Alerts", *_alert_frequency(share, per_day, at))
    right = values.find(subset, "alert_ppv")
    if right:
        ahead = _describe_horizon(task) if task else ""
        event = values.evidence.words.name
        note = f"of the alerts are followed by {event}{ahead} {_percent_interval(right)}"
        yield Tile("Right alerts", f"{right['value']:.0%}", note)


def _alert_frequency(share: dict[str, Any], per_day: float | None, at: str) -> tuple[str, str]:
    """The value and the note of the tile of alerts."""
    if per_day is None:
        return f"{share['value']:.1%}", f"of the predictions raise an alert{at}"
    rate, low, high = (share[name] * per_day for name in ("value", "low", "high"))
    interval = "" if math.isnan(low) else f" [{low:.2g}, {high:.2g}]"
    note = f"{rate:.2g}{interval} per patient-day{at}"
    if rate >= 1:
        return f"{rate:.1f} per day", note
    return f"1 in {1 / rate:.0f}", f"patient-days has an alert; {note}"


def _describe_horizon(task: TaskConfig) -> str:
    if task.horizon is None:
        return ""
    hours = task.step_hours * max(task.horizon, 1)
    if task.cutoff_hours is not None:
        hours = task.step_hours - task.cutoff_hours
    return f" within {time_unit(task).describe(hours)}"


def _describe_reasons(importance: pl.DataFrame | None) -> Iterator[str]:
    """What the model's risks follow from the most, in a sentence."""
    if importance is None:
        return
    largest = importance.filter(pl.col("share") >= LEAST_SHARE).head(MAX_REASONS)
    names = [f"{label} ({share:.0%})" for label, share in largest["label", "share"].iter_rows()]
    if names:
        yield f"What moves its risks most, by share: {join_names(names)}."


def _write_sentences(values: _Values, subset: str) -> Iterator[str]:
    intercept = values.find(subset, "calibration_intercept")
    if intercept and not math.isnan(intercept["low"]):
        yield _describe_calibration(intercept)
    yield _describe_groups(values, subset)


def _describe_calibration(intercept: dict[str, Any]) -> str:
    numbers = f"calibration intercept {_signed(intercept['value'])} {_interval(intercept, 2)}"
    if intercept["high"] < 0:
        return f"Its risks are too high on average for them ({numbers})."
    if intercept["low"] > 0:
        return f"Its risks are too low on average for them ({numbers})."
    return f"Its risks are neither too high nor too low on average for them ({numbers})."


def _describe_groups(values: _Values, subset: str) -> str:
    """The groups whose interval lies on the worse side of the value for everybody."""
    evidence = values.evidence
    metric = get_metric(evidence.about["metric"])
    overall = values.find(subset, metric.name)
    groups = evidence.new_onset_subgroups.filter(
        pl.col("value").is_not_nan(),
        model=values.model,
        metric=metric.name,
    )
    if overall is None or groups.is_empty():
        return "Whether it fares worse for some groups cannot be estimated from these data."
    worse = [row for row in groups.iter_rows(named=True) if _is_worse(row, overall, metric)]
    if not worse:
        return (
            f"In none of {groups.height} groups does the interval of its {metric.label} exclude "
            "the value for all; small groups have wide intervals."
        )
    names = [f"{describe_group(row['subset'])} ({_format(row, metric)})" for row in worse]
    return (
        f"It fares worse for {join_names(names)}; {metric.label} for all: "
        f"{_format(overall, metric)}."
    )


def _is_worse(row: dict[str, Any], overall: dict[str, Any], metric: Metric) -> bool:
    if math.isnan(row["low"]):
        return False
    if metric.larger_is_better is None:
        return False
    if metric.larger_is_better:
        return bool(row["high"] < overall["value"])
    return bool(row["low"] > overall["value"])


def _write_warnings(values: _Values, subset: str) -> Iterator[str]:
    evidence = values.evidence
    metric = get_metric(evidence.about["metric"])
    yield from _warn_of_other_winner(evidence, metric, subset)
    slope = values.find(subset, "calibration_slope")
    if slope and (slope["high"] < 1 or slope["low"] > 1):
        spread = "too extreme" if slope["value"] < 1 else "not extreme enough"
        yield (
            f"The risks of {values.model} are {spread} for them (calibration slope "
            f"{slope['value']:.2f} {_interval(slope, 2)}): recalibrate it before risks are shown "
            "to anybody."
        )
    threshold = evidence.about["thresholds"].get(values.model)
    if threshold is not None and threshold > NEVER:
        yield f"{values.model} raises no alerts: no threshold was useful on development data."
    resamples = evidence.about["resamples"]
    if resamples < PUBLISHABLE_RESAMPLES:
        yield (
            f"Intervals come from {resamples:,} resamples: enough for a demonstration, not for a "
            "publication."
        )


def _warn_of_other_winner(evidence: Evidence, metric: Metric, subset: str) -> Iterator[str]:
    if ALL in {subset, evidence.ranking_subset}:
        return
    over_all = evidence.leaderboard.filter(
        pl.col("value").is_not_nan(), subset=ALL, metric=metric.name
    )
    if over_all.is_empty():
        return
    best = _best_row(over_all, metric)
    if best["model"] == evidence.models[0]:
        return
    yield (
        f"Over all rows {best['model']} has the best {metric.label} ({_format(best, metric)}), but "
        f"those include patients who are {evidence.words.state} already, for whom an alert is no "
        f"news. For the others {evidence.models[0]} ranks first."
    )


def _best_row(rows: pl.DataFrame, metric: Metric) -> dict[str, Any]:
    badness = (pl.col("value") - metric.ideal).abs()
    if metric.larger_is_better is not None:
        badness = -pl.col("value") if metric.larger_is_better else pl.col("value")
    return rows.sort(badness, "model").row(0, named=True)


def _format(row: dict[str, Any], metric: Metric) -> str:
    return format_estimate(row["value"], row["low"], row["high"], metric.decimals)


def _interval(row: dict[str, Any], decimals: int) -> str:
    if math.isnan(row["low"]):
        return ""
    return f"[{row['low']:.{decimals}f}, {row['high']:.{decimals}f}]"


def _percent_interval(row: dict[str, Any]) -> str:
    return "" if math.isnan(row["low"]) else f"[{100 * row['low']:.0f}, {100 * row['high']:.0f}]%"


def _signed(value: float) -> str:
    return f"{value:+.2f}"
