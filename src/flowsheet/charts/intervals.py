"""Values with intervals: forest plots, differences, subgroups, and bars."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import polars as pl

from flowsheet.charts.style import (
    REFERENCE_COLOR,
    WIDTH,
    Chart,
    by_model,
    make_data,
    model_color,
    no_data,
    set_style,
)

_ROW_HEIGHT = 19
_MAX_LABEL = 150


def forest(
    estimates: pl.DataFrame, label: str, *, zero: bool = False, colors: Sequence[str] = ()
) -> Chart:
    """A dot and its interval for each row, on one scale.

    Args:
        estimates: name, value, low, high (null or NaN where there is none), and where known count.
        label: of the scale.
        zero: whether a line marks 0.
        colors: of the rows in their order; without them by rank.
    """
    known = estimates.with_columns(pl.col("value", "low", "high").fill_nan(None))
    if known["value"].is_null().all():
        return no_data()
    names = known["name"].to_list()
    palette = list(colors) or [model_color(i) for i in range(len(names))]
    y = alt.Y("name:N", sort=names, title=None, axis=alt.Axis(labelLimit=_MAX_LABEL, grid=False))
    x_scale = alt.Scale(zero=zero, nice=False, padding=12)
    color = alt.Color("name:N", scale=alt.Scale(domain=names, range=palette), legend=None)
    base = alt.Chart(make_data(known))
    whiskers = base.mark_rule(strokeWidth=2).encode(
        x=alt.X("low:Q", scale=x_scale, title=label), x2="high:Q", y=y, color=color
    )
    dots = base.mark_circle(size=60, opacity=1).encode(
        x=alt.X("value:Q", scale=x_scale, title=label), y=y, color=color, tooltip=_tooltip(known)
    )
    layers = [_zero_line(), whiskers, dots] if zero else [whiskers, dots]
    chart = alt.layer(*layers).properties(width=WIDTH - 40, height=_ROW_HEIGHT * len(names))
    return set_style(chart, f"{label} with intervals")


def differences(pairs: pl.DataFrame, label: str) -> Chart:
    """Differences between models with their intervals.

    Where all are those of one model, the rows name the others.

    Args:
        pairs: model_a, model_b, difference, low, high and verdict.
        label: of the metric.
    """
    is_one_model = pairs["model_a"].n_unique() == 1
    both = pl.col("model_a") + " - " + pl.col("model_b")
    columns = pairs.select(
        name=pl.col("model_b") if is_one_model else both,
        value="difference",
        low="low",
        high="high",
        verdict="verdict",
    )
    title = f"Difference in {label}"
    if is_one_model:
        title = f"{title}, {pairs['model_a'][0]} minus the other"
    colors = [model_color(0) if v == "better" else REFERENCE_COLOR for v in columns["verdict"]]
    return forest(columns, title, zero=True, colors=colors)


def subgroups(estimates: pl.DataFrame, models: Sequence[str], label: str) -> Chart:
    """One metric by subgroup, a panel for each grouping.

    Args:
        estimates: grouping (empty: one panel without a title), group, model, value, low, high and
            count.
        models: names, the best one first.
        label: of the metric.
    """
    known = estimates.with_columns(pl.col("value", "low", "high").fill_nan(None))
    if known.is_empty() or known["value"].is_null().all():
        return no_data()
    limits = known.select(
        pl.min_horizontal("low", "value"), high=pl.max_horizontal("high", "value")
    )
    scale = alt.Scale(
        domain=[limits["low"].min(), limits["high"].max()], zero=False, nice=False, padding=8
    )
    groupings = known["grouping"].unique(maintain_order=True).to_list()
    panels = []
    for i, name in enumerate(groupings):
        is_last = i == len(groupings) - 1
        axis = alt.Axis(title=label if is_last else None, labels=is_last, ticks=is_last)
        panels.append(_subgroup_panel(known.filter(grouping=name), name, models, scale, axis))
    return set_style(alt.vconcat(*panels, spacing=4), f"{label} by subgroup")


def _subgroup_panel(
    rows: pl.DataFrame, title: str, models: Sequence[str], scale: alt.Scale, axis: alt.Axis
) -> Chart:
    groups = rows["group"].unique(maintain_order=True).to_list()
    offset = alt.YOffset("model:N", sort=list(models))
    width = 90 if title else _MAX_LABEL
    labels = alt.Axis(grid=False, minExtent=width, maxExtent=width, labelLimit=width - 4)
    y = alt.Y("group:N", sort=groups, title=None, axis=labels)
    color = by_model(models, listed=rows["model"].unique().to_list())["color"]
    base = alt.Chart(make_data(rows))
    whiskers = base.mark_rule(strokeWidth=1.5).encode(
        x=alt.X("low:Q", scale=scale, axis=axis), x2="high:Q", y=y, yOffset=offset, color=color
    )
    dots = base.mark_circle(size=40, opacity=1).encode(
        x=alt.X("value:Q", scale=scale, axis=axis),
        y=y,
        yOffset=offset,
        color=color,
        tooltip=[alt.Tooltip("model:N", title="Model"), *_tooltip(rows, "group")],
    )
    height = len(groups) * max(16, 8 * rows["model"].n_unique())
    panel = alt.layer(whiskers, dots).properties(width=WIDTH, height=height)
    heading = alt.Title(title, fontSize=11, anchor="start", offset=2)
    return panel.properties(title=heading) if title else panel


def bars(values: pl.DataFrame, label: str, *, end: float | None = None) -> Chart:
    """Horizontal bars from zero, one a row.

    Args:
        values: name and value, from top to bottom.
        label: of the scale.
        end: where the scale ends; None: at the largest value.
    """
    names = values["name"].to_list()
    scale = alt.Scale(nice=False) if end is None else alt.Scale(domain=[0, end])
    number = ".1%" if end == 1 else ".4~g"
    axis = alt.Axis(format="%") if end == 1 else alt.Axis()
    chart = alt.Chart(make_data(values)).mark_bar(color=model_color(0), opacity=0.85, height=9)
    chart = chart.encode(
        x=alt.X("value:Q", title=label, scale=scale, axis=axis),
        y=alt.Y("name:N", sort=names, title=None, axis=alt.Axis(labelLimit=_MAX_LABEL, grid=False)),
        tooltip=[alt.Tooltip("name:N", title=" "), alt.Tooltip("value:Q", format=number)],
    )
    height = max(_ROW_HEIGHT - 4, 12) * len(names)
    return set_style(chart.properties(width=WIDTH - 100, height=height), label)


def _tooltip(frame: pl.DataFrame, name: str = "name") -> list[alt.Tooltip]:
    """The name, the value with its interval, and the count where there is one."""
    number = ".4~g"
    tooltip = [
        alt.Tooltip(f"{name}:N", title=" "),
        alt.Tooltip("value:Q", title="Value", format=number),
        alt.Tooltip("low:Q", title="Interval, low", format=number),
        alt.Tooltip("high:Q", title="Interval, high", format=number),
    ]
    if "count" in frame.columns:
        tooltip.append(alt.Tooltip("count:Q", title="Count", format=","))
    return tooltip


def _zero_line() -> Chart:
    data = {"values": [{"zero": 0}]}
    return alt.Chart(data).mark_rule(color=REFERENCE_COLOR).encode(x="zero:Q")
