"""Panes of a chart over the time of one stay: they share the time axis and stand one below another.

Every pane has its labels in a column of the same width, so that the panes are aligned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt
import polars as pl

from flowsheet.charts.style import EVENT_COLOR, Chart, make_data, model_color

_LABEL_WIDTH = 190
_MEASUREMENT_HEIGHT = 30
_DOSE_ROW_HEIGHT = 16


@dataclass(frozen=True)
class TimeAxis:
    """The time of a stay, from its begin to its end."""

    begin: float
    end: float
    title: str
    width: int

    def channel(self, field: str, *, labelled: bool = False) -> alt.X:
        """The x channel of a pane; only the lowest pane is labelled."""
        scale = alt.Scale(domain=[self.begin, self.end], nice=False)
        axis = alt.Axis(
            title=self.title if labelled else None,
            labels=labelled,
            ticks=labelled,
            tickMinStep=1,
            format="~r",
        )
        return alt.X(f"{field}:Q", scale=scale, axis=axis)


def label_axis(title: str | None = None, *, labels: bool = True, count: int = 3) -> alt.Axis:
    """A y axis as wide as in every other pane, with its title beside it."""
    return alt.Axis(
        title=title,
        titleAngle=0,
        titleAlign="left",
        titleX=-_LABEL_WIDTH,
        titleFontSize=11,
        titleLimit=158,
        labels=labels,
        labelLimit=_LABEL_WIDTH - 8,
        tickCount=count,
        minExtent=_LABEL_WIDTH,
        maxExtent=_LABEL_WIDTH,
    )


def measurement_panes(
    measurements: pl.DataFrame, axis: TimeAxis, onset: float | None = None
) -> list[Chart]:
    """A line for each variable.

    Args:
        measurements: time, variable (with its unit) and value.
        axis: of time.
        onset: is marked where it is given.
    """
    panes = []
    for (variable,), values in measurements.group_by("variable", maintain_order=True):
        y = alt.Y(
            "value:Q",
            scale=alt.Scale(zero=False, padding=4),
            axis=label_axis(str(variable), count=2),
        )
        tooltip = [
            alt.Tooltip("variable:N", title=" "),
            alt.Tooltip("value:Q", format=".4~g"),
            alt.Tooltip("time:Q", title=axis.title, format=".2~f"),
        ]
        lines = alt.Chart(make_data(values)).mark_line(
            color=model_color(6), strokeWidth=1.3, point={"size": 12, "color": model_color(6)}
        )
        lines = lines.encode(x=axis.channel("time"), y=y, tooltip=tooltip)
        panes.append(finish_pane([lines], axis, _MEASUREMENT_HEIGHT, onset))
    return panes


def dose_pane(doses: pl.DataFrame, axis: TimeAxis, onset: float | None = None) -> Chart:
    """A bar for each exposure, a row for each drug.

    Args:
        doses: start, end, drug, amount (a number that sets the size) and text.
        axis: of time.
        onset: is marked where it is given.
    """
    drugs = doses["drug"].unique().sort().to_list()
    y = alt.Y("drug:N", sort=drugs, axis=label_axis(labels=True))
    tooltip = [
        alt.Tooltip("drug:N", title="Drug"),
        alt.Tooltip("text:N", title="Dose"),
        alt.Tooltip("start:Q", title=axis.title, format=".2~f"),
    ]
    base = alt.Chart(make_data(doses))
    x = axis.channel("start")
    bars = base.mark_rule(strokeWidth=5, opacity=0.6, color=model_color(5), strokeCap="round")
    dots = base.mark_circle(color=model_color(5), opacity=0.9)
    size = alt.Size("amount:Q", scale=alt.Scale(range=[25, 130]), legend=None)
    layers = [
        bars.encode(x=x, x2="end:Q", y=y, tooltip=tooltip),
        dots.encode(x=x, y=y, size=size, tooltip=tooltip),
    ]
    return finish_pane(layers, axis, _DOSE_ROW_HEIGHT * max(1, len(drugs)), onset)


def finish_pane(
    layers: Sequence[Chart], axis: TimeAxis, height: int, onset: float | None = None
) -> Chart:
    """The layers as one pane.

    Args:
        layers: from back to front.
        axis: of time.
        height: in pixels.
        onset: is marked where it is given.
    """
    marks = list(layers)
    if onset is not None:
        data = {"values": [{"onset": onset}]}
        rule = alt.Chart(data).mark_rule(color=EVENT_COLOR, strokeWidth=1.5)
        marks.insert(0, rule.encode(x=axis.channel("onset")))
    return alt.layer(*marks).properties(width=axis.width, height=height)


def label_last(panes: Sequence[Chart], axis: TimeAxis) -> list[Chart]:
    """The panes and below them the labelled time axis."""
    data = {"values": [{"time": axis.begin}]}
    blank = alt.Chart(data).mark_point(opacity=0).encode(x=axis.channel("time", labelled=True))
    return [*panes, blank.properties(width=axis.width, height=1)]


def stack(panes: Sequence[Chart], axis: TimeAxis) -> Chart:
    """The panes one below another."""
    stacked = alt.vconcat(*label_last(panes, axis), spacing=6, bounds="flush")
    stacked = stacked.resolve_scale(color="independent", size="independent")
    return stacked.properties(padding={"left": 4, "top": 22, "right": 4, "bottom": 4})
