"""One stay over time: risk, alerts, onset, vital signs, laboratory values and doses."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import polars as pl

from flowsheet.charts._panes import (
    TimeAxis,
    dose_pane,
    finish_pane,
    label_axis,
    measurement_panes,
    stack,
)
from flowsheet.charts.style import EVENT_COLOR, Chart, by_model, legend_toggle, make_data, set_style

_RISK_HEIGHT = 110
_WIDTH = 690


def stay_timeline(
    risks: pl.DataFrame,
    measurements: pl.DataFrame,
    doses: pl.DataFrame,
    *,
    models: Sequence[str],
    onset: float | None,
    end: float,
    unit: str = "days",
    begin: float = 0.0,
) -> Chart:
    """A held-out stay as somebody at the bedside would follow it.

    Args:
        risks: time, model, risk, threshold and is_alert: the models' predictions.
        measurements: time, variable (with its unit) and value.
        doses: start, end, drug, amount and text.
        models: names, in the order of their colours; without any no risk is drawn.
        onset: of the event; None: there is none.
        end: of the stay.
        unit: plural of the unit of all times.
        begin: where the axis starts.
    """
    axis = TimeAxis(begin, end, f"{unit.capitalize()} since admission", _WIDTH)
    panes = [_risk_pane(risks, axis, models, onset)] if models else []
    panes += measurement_panes(measurements, axis, onset)
    if not doses.is_empty():
        panes.append(dose_pane(doses, axis, onset))
    return set_style(stack(panes, axis), "One stay: risk, measurements and doses over time")


def _risk_pane(
    risks: pl.DataFrame, axis: TimeAxis, models: Sequence[str], onset: float | None
) -> Chart:
    toggle = legend_toggle(models)
    base = alt.Chart(make_data(risks)).transform_filter(toggle)
    top = max(risks["risk"].max(), *risks["threshold"].drop_nulls().to_list(), 0.05)
    scale = alt.Scale(domain=[0, min(1.0, float(str(top)) * 1.1)])
    y = alt.Y("risk:Q", scale=scale, axis=label_axis("Risk"))
    x = axis.channel("time")
    style = by_model(models, orient="right")
    tooltip = [
        alt.Tooltip("model:N", title="Model"),
        alt.Tooltip("time:Q", title=axis.title, format=".2~f"),
        alt.Tooltip("risk:Q", title="Risk", format=".1%"),
        alt.Tooltip("threshold:Q", title="Threshold", format=".1%"),
    ]
    thresholds = base.mark_line(strokeWidth=1, opacity=0.75).encode(
        x=x,
        y=alt.Y("threshold:Q", scale=scale),
        color=style["color"],
        detail="model:N",
        strokeDash=alt.value([2, 3]),
    )
    lines = base.mark_line(strokeWidth=1.8).encode(x=x, y=y, color=style["color"])
    dots = base.mark_circle(size=26, opacity=1).encode(
        x=x, y=y, color=style["color"], tooltip=tooltip
    )
    alerts = (
        base.transform_filter("datum.is_alert")
        .mark_point(shape="triangle-up", filled=True, size=150, opacity=1)
        .encode(x=x, y=y, color=style["color"], tooltip=tooltip)
    )
    layers = [thresholds, lines.add_params(toggle), dots, alerts]
    if onset is not None:
        layers.append(_onset_label(onset, axis))
    return finish_pane(layers, axis, _RISK_HEIGHT, onset)


def _onset_label(onset: float, axis: TimeAxis) -> Chart:
    data = {"values": [{"onset": onset, "label": "onset"}]}
    text = alt.Chart(data).mark_text(color=EVENT_COLOR, dy=-7, baseline="bottom", fontSize=11)
    return text.encode(x=axis.channel("onset"), y=alt.value(0), text="label:N")
