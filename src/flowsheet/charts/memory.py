"""What models remember: learned dose responses, gradients by lag, the gates of an LSTM."""

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
from flowsheet.charts.style import (
    EVENT_COLOR,
    HEIGHT,
    REFERENCE_COLOR,
    WIDTH,
    Chart,
    by_model,
    legend_toggle,
    make_data,
    model_color,
    set_style,
)

MIN_RANGE = 0.5
"""Scales of effects extend at least this far from 0, so that negligible effects look negligible."""
_TRUTH_COLOR = "#6d7680"
_TIMELINE_WIDTH = 690
GATES = ("forget", "input", "output")


def dose_response(
    truth: pl.DataFrame,
    learned: pl.DataFrame,
    *,
    models: Sequence[str],
    unit: str,
    label: str = "",
) -> Chart:
    """One drug: the true effect of a dose (grey), and the learned ones with their intervals.

    Args:
        truth: lag and effect, in log odds.
        learned: model, lag, response, low and high.
        models: names in the order of their colours.
        unit: plural of a step.
        label: name of the drug, for screen readers.
    """
    domain = _effect_domain([*truth["effect"], *learned["response"], *_finite(learned)])
    x = _lag_channel(f"{unit} since the dose")
    scale = alt.Scale(domain=domain, nice=False)
    y = alt.Y("response:Q", title="Effect on the log odds", scale=scale)
    drawn = [model for model in models if model in set(learned["model"])]
    toggle = legend_toggle(drawn)
    style = _style_of(models, drawn)
    base = alt.Chart(make_data(learned)).transform_filter(toggle)
    tooltip = [
        alt.Tooltip("model:N", title="Model"),
        alt.Tooltip("lag:Q", title=unit),
        alt.Tooltip("response:Q", title="Learned effect", format="+.2f"),
        alt.Tooltip("low:Q", title="Interval, low", format="+.2f"),
        alt.Tooltip("high:Q", title="Interval, high", format="+.2f"),
    ]
    true_line = alt.Chart(make_data(truth)).mark_line(
        color=_TRUTH_COLOR, strokeWidth=3.5, opacity=0.6
    )
    layers = [
        _zero_line(),
        true_line.encode(x=x, y=alt.Y("effect:Q", scale=scale)),
        base.mark_line(strokeWidth=1.8).encode(x=x, y=y, **style).add_params(toggle),
        base.mark_circle(size=45, opacity=0, aria=False).encode(x=x, y=y, tooltip=tooltip),
    ]
    if _finite(learned):
        band = base.mark_area(opacity=0.14).encode(
            x=x, y=alt.Y("low:Q", scale=scale), y2="high:Q", color=style["color"]
        )
        layers.insert(1, band)
    chart = alt.layer(*layers).properties(width=WIDTH - 20, height=HEIGHT - 30)
    return set_style(chart, f"True and learned effect of one dose of {label}")


def dose_response_grid(
    truth: pl.DataFrame, learned: pl.DataFrame, *, models: Sequence[str], unit: str
) -> Chart:
    """Every model by every drug: the true effect as a grey area, the learned one as a line.

    Args:
        truth: drug, shape, lag and effect; each drug has its own scale.
        learned: model, drug, lag and response.
        models: from top to bottom, in the order of their colours.
        unit: plural of a step.
    """
    joined = learned.join(truth, on=["drug", "lag"], maintain_order="left")
    drugs = truth["drug"].unique(maintain_order=True).to_list()
    columns = []
    for i, drug in enumerate(drugs):
        rows = joined.filter(drug=drug)
        columns.append(_grid_column(rows, drug, models, is_first=i == 0))
    title = alt.Title(f"{unit} since the dose", orient="bottom", anchor="middle", fontSize=11)
    chart = alt.hconcat(*columns, spacing=8, title=title)
    return set_style(chart, "True and learned effect of a dose, every model by every drug")


def _grid_column(rows: pl.DataFrame, drug: str, models: Sequence[str], *, is_first: bool) -> Chart:
    domain = _effect_domain([*rows["effect"], *rows["response"]])
    scale = alt.Scale(domain=domain, nice=False)
    x = alt.X(
        "lag:Q", title=None, axis=alt.Axis(tickCount=3, grid=False), scale=alt.Scale(nice=False)
    )
    no_axis = alt.Axis(labels=False, ticks=False, domain=False, grid=False, title=None)
    base = alt.Chart()
    area = base.mark_area(color=REFERENCE_COLOR, opacity=0.4).encode(
        x=x, y=alt.Y("effect:Q", scale=scale, axis=no_axis)
    )
    style = by_model(models, legend=False)
    line = base.mark_line(strokeWidth=1.6).encode(
        x=x, y=alt.Y("response:Q", scale=scale, axis=no_axis), color=style["color"]
    )
    data = make_data(rows.select("model", "lag", "effect", "response"))
    cells = alt.layer(area, line, data=data).properties(width=88, height=34)
    header = alt.Header(
        labels=is_first, labelAngle=0, labelAlign="left", title=None, labelLimit=140
    )
    row = alt.Row("model:N", sort=list(models), header=header)
    title = alt.Title(drug.replace("_", " "), subtitle=_describe_shape(rows), fontSize=11)
    return cells.facet(row=row, spacing=4).properties(title=title)


def _describe_shape(rows: pl.DataFrame) -> str:
    """The shape of a drug's curve and its largest effect."""
    peak = max(rows["effect"].to_list(), key=abs)
    return f"{rows['shape'][0]}, {peak:+.1f}" if peak else "no effect"


def gradients(
    relative: pl.DataFrame, *, models: Sequence[str], unit: str, marked_lag: int | None = None
) -> Chart:
    """Gradients of a prediction by the inputs of earlier steps, relative to lag 0; logarithmic.

    The geometric mean over replicates, and each replicate as a thin line.

    Args:
        relative: replicate, model, lag and relative.
        models: names in the order of their colours.
        unit: plural of a step.
        marked_lag: the lag that the text compares.
    """
    low = max(float(str(relative["relative"].min())) / 1.5, 1e-8)
    high = max(float(str(relative["relative"].max())) * 1.3, 1.3)
    shown = relative.select("replicate", "model", "lag", pl.col("relative").clip(low, high))
    geometric_mean = pl.col("relative").log().mean().exp()
    means = shown.group_by("model", "lag", maintain_order=True).agg(geometric_mean)
    x = _lag_channel(f"{unit} back")
    scale = alt.Scale(type="log", domain=[low, high], nice=False)
    axis = alt.Axis(format="~g", tickCount=5)
    y = alt.Y("relative:Q", title="Gradient relative to lag 0", scale=scale, axis=axis)
    drawn = [model for model in models if model in set(relative["model"])]
    toggle = legend_toggle(drawn)
    style = _style_of(models, drawn)
    tooltip = ["model:N", "lag:Q", alt.Tooltip("relative:Q", format=".3~g")]
    thin = (
        alt.Chart(make_data(shown))
        .transform_filter(toggle)
        .mark_line(strokeWidth=0.8, opacity=0.45)
    )
    base = alt.Chart(make_data(means)).transform_filter(toggle)
    layers = [
        thin.encode(x=x, y=y, color=style["color"], detail="replicate:N"),
        base.mark_line(strokeWidth=1.8).encode(x=x, y=y, **style).add_params(toggle),
        base.mark_circle(size=45, opacity=0, aria=False).encode(x=x, y=y, tooltip=tooltip),
    ]
    if marked_lag is not None and marked_lag <= int(str(relative["lag"].max())):
        marked = alt.Chart({"values": [{"lag": marked_lag}]}).mark_rule(
            color=REFERENCE_COLOR, strokeDash=[3, 3]
        )
        layers.insert(0, marked.encode(x="lag:Q"))
    chart = alt.layer(*layers).properties(width=WIDTH - 20, height=HEIGHT - 30)
    return set_style(chart, "Gradient of the last prediction by earlier inputs")


def gate_timeline(
    predictions: pl.DataFrame,
    doses: pl.DataFrame,
    measurements: pl.DataFrame,
    gates: pl.DataFrame,
    cell: pl.DataFrame,
    *,
    model: str,
    unit: str,
    state: str,
) -> Chart:
    """One stay of a simulated ward: predictions, doses, measurements, an LSTM's gates and cell.

    Args:
        predictions: step, in_state (in this step), oracle and model (of the next step).
        doses: step, drug and doses (in reference doses).
        measurements: step, variable and value.
        gates: step, gate, mean, low and high (over the units).
        cell: step, unit and value.
        model: name of the LSTM.
        unit: of a step.
        state: what patients are during an episode, such as septic.
    """
    steps = predictions["step"]
    first, last = float(str(steps.min())), float(str(steps.max()))
    axis = TimeAxis(first - 0.5, last + 0.5, f"{unit} of the stay", _TIMELINE_WIDTH)
    dose_rows = doses.select(
        start=pl.col("step"),
        end=pl.col("step"),
        drug="drug",
        amount="doses",
        text=pl.format("{} reference doses", pl.col("doses").round(2)),
    )
    panes = [
        _prediction_pane(predictions, model, state, axis),
        dose_pane(dose_rows, axis),
        *measurement_panes(measurements.rename({"step": "time"}), axis),
        _gate_pane(gates, axis),
        _cell_pane(cell, axis),
    ]
    return set_style(stack(panes, axis), "One stay with the gates of an LSTM")


def _prediction_pane(predictions: pl.DataFrame, model: str, state: str, axis: TimeAxis) -> Chart:
    """The probabilities of the oracle and the model, over the hours in the state.

    Args:
        predictions: step, in_state, oracle and model.
        model: its name.
        state: what patients are during an episode.
        axis: of the stay.
    """
    names = ["oracle", model]
    long = predictions.rename({"model": model}).unpivot(
        on=names, index="step", variable_name="series", value_name="probability"
    )
    in_state = predictions.filter(pl.col("in_state")).select(
        begin=pl.col("step") - 0.5, end=pl.col("step") + 0.5
    )
    rectangles = alt.Chart(make_data(in_state)).mark_rect(color=EVENT_COLOR, opacity=0.16)
    scale = alt.Scale(domain=names, range=[_TRUTH_COLOR, model_color(0)])
    legend = alt.Legend(title=None, orient="right")
    y_axis = label_axis(f"P({state} next)")
    y = alt.Y("probability:Q", scale=alt.Scale(domain=[0, 1]), axis=y_axis)
    lines = alt.Chart(make_data(long)).mark_line(strokeWidth=1.8)
    lines = lines.encode(
        x=axis.channel("step"),
        y=y,
        color=alt.Color("series:N", scale=scale, legend=legend),
        tooltip=["series:N"],
    )
    layers = [rectangles.encode(x=axis.channel("begin"), x2="end:Q"), lines]
    return finish_pane(layers, axis, 96)


def _gate_pane(gates: pl.DataFrame, axis: TimeAxis) -> Chart:
    colors = [model_color(i) for i in range(len(GATES))]
    legend = alt.Legend(title=None, orient="right")
    color = alt.Color("gate:N", scale=alt.Scale(domain=list(GATES), range=colors), legend=legend)
    base = alt.Chart(make_data(gates))
    y_axis = label_axis("Gates")
    scale = alt.Scale(domain=[0, 1])
    band = base.mark_area(opacity=0.16).encode(
        x=axis.channel("step"), y=alt.Y("low:Q", scale=scale, axis=y_axis), y2="high:Q", color=color
    )
    line = base.mark_line(strokeWidth=1.6).encode(
        x=axis.channel("step"), y=alt.Y("mean:Q", scale=scale, axis=y_axis), color=color
    )
    return finish_pane([band, line], axis, 96)


def _cell_pane(cell: pl.DataFrame, axis: TimeAxis) -> Chart:
    units = cell["unit"].unique(maintain_order=True).to_list()
    largest = float(str(cell["value"].abs().max())) or 1.0
    rows = cell.select(
        begin=pl.col("step") - 0.5,
        end=pl.col("step") + 0.5,
        unit=pl.format("cell, unit {}", "unit"),
        value="value",
    )
    scale = alt.Scale(domain=[-largest, 0, largest], range=[model_color(0), "#f7f7f7", EVENT_COLOR])
    names = [f"cell, unit {unit}" for unit in units]
    mark = alt.Chart(make_data(rows)).mark_bar(height={"band": 1})
    mark = mark.encode(
        x=axis.channel("begin"),
        x2="end:Q",
        y=alt.Y("unit:N", sort=names, axis=label_axis()),
        color=alt.Color("value:Q", scale=scale, legend=None),
        tooltip=["unit:N", alt.Tooltip("value:Q", format="+.2f")],
    )
    return finish_pane([mark], axis, 12 * len(units))


def _style_of(models: Sequence[str], drawn: Sequence[str]) -> dict[str, alt.Color]:
    """Colours by rank among ``models``, with a legend of those that are drawn."""
    colors = [model_color(list(models).index(model)) for model in drawn]
    legend = alt.Legend(title=None, orient="bottom", columns=3)
    scale = alt.Scale(domain=list(drawn), range=colors)
    return {"color": alt.Color("model:N", scale=scale, legend=legend)}


def _lag_channel(title: str) -> alt.X:
    return alt.X("lag:Q", title=title, scale=alt.Scale(nice=False), axis=alt.Axis(grid=False))


def _zero_line() -> Chart:
    data = {"values": [{"zero": 0}]}
    mark = alt.Chart(data).mark_rule(color=REFERENCE_COLOR, strokeDash=[3, 3])
    return mark.encode(y="zero:Q")


def _finite(learned: pl.DataFrame) -> list[float]:
    """The ends of the intervals, where there are any."""
    limits = pl.concat([learned["low"], learned["high"]])
    return limits.filter(limits.is_finite()).to_list()


def _effect_domain(values: Sequence[float]) -> list[float]:
    values = [-MIN_RANGE, MIN_RANGE, *values]
    margin = (max(values) - min(values)) * 0.06 or 0.5
    return [min(values) - margin, max(values) + margin]
