"""The section of an evaluation's report that comes first: what differs from home."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from markupsafe import Markup

from flowsheet.evaluation.evidence import Evidence
from flowsheet.evaluation.leaderboard import LEADING_METRICS, order_subsets
from flowsheet.evaluation.metrics import get_metric
from flowsheet.evaluation.report.data import Section
from flowsheet.evaluation.report.templates import make_environment
from flowsheet.evaluation.summaries import format_value_and_interval
from flowsheet.lifecycle.deployment.home_comparison import HomeComparison

_N_LEADING = 6
"""Metrics of the first rows that are shown unfolded."""


def render_home_section(comparisons: Mapping[str, HomeComparison], evidence: Evidence) -> Section:
    """Differences of the patients first, then the figures here beside those at home.

    Args:
        comparisons: by model, or by another name for the heading, such as its version.
        evidence: gives the titles of the models, and order and titles of the subsets.
    """
    environment = make_environment(Path(__file__).parent)
    environment.filters["number"] = _format_number
    html = environment.get_template("evaluation_section.html").render(
        comparisons=comparisons,
        titles=evidence.titles,
        n_leading=_N_LEADING,
        figures={
            model: {
                title: _format_figures(comparison, subset)
                for subset, title in order_subsets(evidence).items()
            }
            for model, comparison in comparisons.items()
        },
    )
    return Section("home", "Here and at home", Markup(html))


def _format_figures(
    comparison: HomeComparison, subset: str
) -> list[tuple[str, tuple[str, str], tuple[str, str]]]:
    """(metric, here, home) with value and interval as texts, the leading metrics first."""
    rows = []
    figures = comparison.figures.filter(subset=subset).to_dicts()
    for row in sorted(figures, key=lambda row: _place(row["metric"])):
        metric = get_metric(row["metric"])
        cells = []
        for name in ("here", "home"):
            numbers = [row[name + suffix] for suffix in ("", "_low", "_high")]
            value, low, high = (math.nan if n is None else n for n in numbers)
            cells.append(format_value_and_interval(value, low, high, metric.decimals))
        rows.append((metric.label, cells[0], cells[1]))
    return rows


def _place(metric: str) -> int:
    return LEADING_METRICS.index(metric) if metric in LEADING_METRICS else len(LEADING_METRICS)


def _format_number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
