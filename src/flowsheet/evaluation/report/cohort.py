"""The cohort section: tables and charts of the patients that the results are about."""

from __future__ import annotations

from typing import Any

import polars as pl

from flowsheet import charts
from flowsheet.charts.style import Chart
from flowsheet.charts.tuning import humanize
from flowsheet.evaluation.report.data import CohortReport
from flowsheet.evaluation.study import StudyFacts

MAX_VARIABLES = 60
"""Variables in the missingness charts."""


def prepare_cohort(cohort: CohortReport, study: StudyFacts | None = None) -> dict[str, Any]:
    """What the template of the section shows; the flow of participants ends with the study's."""
    flow = tuple((step.step, step.stays) for step in study.flow) if study else ()
    shares = cohort.missing_shares.items()
    ranked = sorted(shares, key=lambda item: (-item[1], item[0]))[:MAX_VARIABLES]
    third = -(-len(ranked) // 3)
    columns = [ranked[i : i + third] for i in range(0, len(ranked), max(third, 1))]
    parts = [_with_prevalence(row) for row in cohort.parts.iter_rows(named=True)]
    return {
        "data": cohort,
        "parts": parts,
        "has_states": any(part["new_onset_rows"] not in {None, part["rows"]} for part in parts),
        "attrition": _attrition_rows(flow or cohort.attrition),
        "prevalence": _prevalence_tables(cohort.prevalence),
        "missing_charts": [_chart_missing(column) for column in columns],
        "n_not_drawn": max(0, len(cohort.missing_shares) - MAX_VARIABLES),
    }


def _with_prevalence(part: dict[str, Any]) -> dict[str, Any]:
    prevalence = part["events"] / part["rows"] if part["rows"] else None
    optional = dict.fromkeys(("scored_stays", "new_onset_rows", "new_onsets"))
    return {**optional, **part, "prevalence": prevalence}


def _prevalence_tables(table: pl.DataFrame) -> list[tuple[str, list[dict[str, Any]], float]]:
    """(grouping, rows, largest share) in the order of the table."""
    if table.is_empty():
        return []
    tables = []
    for (by,), group in table.group_by("by", maintain_order=True):
        largest_share = float(str(group["share"].max() or 0)) or 1.0
        tables.append((humanize(str(by)), list(group.iter_rows(named=True)), largest_share))
    return tables


def _chart_missing(column: list[tuple[str, float]]) -> Chart:
    shares = pl.DataFrame(column, schema=["name", "value"], orient="row")
    return charts.bars(shares, "Rows without a known value", end=1.0)


def _attrition_rows(steps: tuple[tuple[str, int], ...]) -> list[dict[str, Any]]:
    largest = max((remaining for _, remaining in steps), default=0)
    before = [None, *(remaining for _, remaining in steps[:-1])]
    return [
        {
            "step": step,
            "remaining": remaining,
            "excluded": None if previous is None else previous - remaining,
            "share": remaining / largest if largest else 0,
        }
        for (step, remaining), previous in zip(steps, before, strict=True)
    ]
