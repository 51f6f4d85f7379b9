"""The subgroups section: the chosen model in every group, and the ranking metric of all models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import polars as pl

from flowsheet import charts
from flowsheet.charts.style import Chart
from flowsheet.charts.tuning import humanize
from flowsheet.evaluation.evidence import Evidence
from flowsheet.evaluation.metrics import get_metric
from flowsheet.evaluation.report.tables import Cell, make_cell
from flowsheet.evaluation.subsets import NEW_ONSETS

METRICS = ("calibration_intercept", "alert_ppv")
"""Shown beside the metric that ranks the models."""
MAX_DRAWN = 3
"""Models in the chart, the first ones of the leaderboard."""


class GroupRow(NamedTuple):
    """One group; cells are of the chosen model, or of all models."""

    group: str
    counts: dict[str, int]
    cells: list[Cell]


class Grouping(NamedTuple):
    """One way to divide the patients."""

    name: str
    rows: list[GroupRow]


@dataclass(frozen=True)
class SubgroupSection:
    """Every subgroup."""

    label: str
    population: str
    model: str
    columns: list[str]
    groupings: list[Grouping]
    all_models: list[Grouping]
    chart: Chart


def make_subgroup_section(evidence: Evidence) -> SubgroupSection | None:
    """The section; None where there are no subgroups."""
    metric = get_metric(evidence.about["metric"])
    frame, population = _select_groups(evidence)
    ranking = frame.filter(metric=metric.name)
    if ranking.is_empty():
        return None
    model = evidence.models[0]
    available = set(frame["metric"])
    names = [name for name in dict.fromkeys([metric.name, *METRICS]) if name in available]
    return SubgroupSection(
        label=metric.label,
        population=population,
        model=model,
        columns=[get_metric(name).label for name in names],
        groupings=_group(frame.filter(model=model), "metric", names),
        all_models=_group(ranking, "model", evidence.models),
        chart=_make_chart(ranking, evidence.models[:MAX_DRAWN], metric.label),
    )


def _select_groups(evidence: Evidence) -> tuple[pl.DataFrame, str]:
    """Subgroups of patients who are not in the state, where they differ from all rows."""
    if NEW_ONSETS in evidence.about["subsets"] and not evidence.new_onset_subgroups.is_empty():
        return evidence.new_onset_subgroups, f"patients {evidence.words.not_yet}"
    return evidence.leaderboard.filter(pl.col("subset").str.contains(": ")), "held-out rows"


def _group(frame: pl.DataFrame, column: str, keys: list[str]) -> list[Grouping]:
    """A row for each subgroup, a cell for each key in the column."""
    groupings: dict[str, list[GroupRow]] = {}
    for (subset,), rows in frame.group_by("subset", maintain_order=True):
        name, group = str(subset).split(": ", 1)
        by_key: dict[str, dict[str, Any]] = {row[column]: row for row in rows.to_dicts()}
        cells = [_make_cell(by_key.get(key)) for key in keys]
        counts = rows.select("rows", "events", "subjects").row(0, named=True)
        groupings.setdefault(humanize(name), []).append(GroupRow(group, counts, cells))
    return [Grouping(name, rows) for name, rows in groupings.items()]


def _make_cell(row: dict[str, Any] | None) -> Cell:
    return make_cell(row, get_metric(row["metric"]).decimals if row else 0)


def _make_chart(ranking: pl.DataFrame, models: list[str], label: str) -> Chart:
    parts = pl.col("subset").str.splitn(": ", 2)
    estimates = ranking.filter(pl.col("model").is_in(models)).select(
        "model",
        "value",
        "low",
        "high",
        grouping=parts.struct.field("field_0").str.replace_all("_", " ").str.to_titlecase(),
        group=parts.struct.field("field_1"),
        count="rows",
    )
    return charts.subgroups(estimates, models, label)
