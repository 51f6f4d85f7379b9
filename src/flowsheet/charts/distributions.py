"""Distributions of a reference and of current data."""

from __future__ import annotations

import altair as alt
import polars as pl

from flowsheet.charts.style import (
    HEIGHT,
    WIDTH,
    Chart,
    by_model,
    legend_toggle,
    make_data,
    set_style,
)

REFERENCE, CURRENT = "reference", "current"


def distribution(points: pl.DataFrame, label: str, share_label: str = "Share at or below") -> Chart:
    """Cumulative distribution functions over each other.

    Args:
        points: model ("reference" or "current"), x (the value), y (the share of values at or below
            it) and count (of values).
        label: of the values.
        share_label: of the shares.
    """
    names = [REFERENCE, CURRENT]
    toggle = legend_toggle(names)
    base = alt.Chart(make_data(points)).transform_filter(toggle)
    x = alt.X("x:Q", title=label, scale=alt.Scale(zero=False, nice=False))
    y = alt.Y("y:Q", title=share_label, scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%"))
    tooltip = [
        alt.Tooltip("model:N", title=" "),
        alt.Tooltip("x:Q", title="Value", format=".4~g"),
        alt.Tooltip("y:Q", title=share_label, format=".0%"),
        alt.Tooltip("count:Q", title="Values", format=","),
    ]
    lines = base.mark_line(interpolate="step-after", strokeWidth=1.8).encode(
        x=x, y=y, **by_model(names)
    )
    hover = base.mark_circle(size=50, opacity=0, aria=False).encode(x=x, y=y, tooltip=tooltip)
    chart = alt.layer(lines.add_params(toggle), hover)
    description = f"Distribution of {label}, reference and current"
    return set_style(chart.properties(width=WIDTH - 30, height=HEIGHT - 60), description)
