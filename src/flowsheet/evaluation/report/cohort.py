"""Who the figures are about: tables and drawings of the cohort."""

from __future__ import annotations

from typing import Any

import polars as pl
from markupsafe import Markup

from flowsheet.evaluation.report import charts
from flowsheet.evaluation.report.data import CohortReport

MISSING = 60
"""Variables in the missingness chart."""


def cohort(told: CohortReport) -> dict[str, Any]:
    """The cohort's drawings and tables."""
    ranked = sorted(told.missing.items(), key=lambda item: (-item[1], item[0]))[:MISSING]
    third = -(-len(ranked) // 3)
    columns = [ranked[i : i + third] for i in range(0, len(ranked), max(third, 1))]
    parts = [dict(row) for row in told.parts.iter_rows(named=True)]
    return {
        "told": told,
        "parts": [
            {**row, "prevalence": row["events"] / row["rows"] if row["rows"] else None}
            for row in parts
        ],
        "attrition": _attrition(told.attrition),
        "prevalence": _prevalence(told.prevalence),
        "missing": [_missing(column) for column in columns],
        "more_missing": max(0, len(told.missing) - MISSING),
    }


def _prevalence(table: pl.DataFrame) -> list[tuple[str, list[dict[str, Any]], float]]:
    """(grouping, lines, largest share) in the order of the table."""
    if table.is_empty():
        return []
    return [
        (
            charts.words(str(by)),
            list(group.iter_rows(named=True)),
            float(str(group["share"].max() or 0)) or 1.0,
        )
        for (by,), group in table.group_by("by", maintain_order=True)
    ]


def _missing(column: list[tuple[str, float]]) -> Markup:
    return charts.bars(
        [n for n, _ in column], [v for _, v in column], "Share of rows with nothing known", end=1.0
    )


def _attrition(steps: tuple[tuple[str, int], ...]) -> list[dict[str, Any]]:
    most = max((left for _, left in steps), default=0)
    before = [None, *(left for _, left in steps[:-1])]
    return [
        {
            "step": step,
            "left": left,
            "lost": None if last is None else last - left,
            "share": left / most if most else 0,
        }
        for (step, left), last in zip(steps, before, strict=True)
    ]
