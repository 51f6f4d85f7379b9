"""Curves of several models: ROC, precision-recall, calibration, decision curves, lead time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import altair as alt
import polars as pl

from flowsheet.charts.style import (
    HEIGHT,
    REFERENCE_COLOR,
    WIDTH,
    Chart,
    by_model,
    legend_toggle,
    make_data,
    set_style,
)

_LEAST_PROBABILITY = 1e-4
_N_CALIBRATION_SHOWN = 3
"""Models whose calibration is shown at first: more of them are hard to read."""
_MAX_DOTS = 30
"""Of each line, under which the pointer finds a value."""
Notes = Mapping[str, str]
"""By model, what is shown beside its name when the pointer is over its line."""


def roc(points: pl.DataFrame, models: Sequence[str], notes: Notes | None = None) -> Chart:
    """Receiver operating characteristic curves.

    Args:
        points: model, x (false positive rate) and y (sensitivity).
        models: names, the best one first.
        notes: by model, e.g. its AUROC with interval and count.
    """
    diagonal = _reference_line([(0, 0), (1, 1)])
    x = alt.X("x:Q", title="False positive rate", scale=alt.Scale(domain=[0, 1]))
    y = alt.Y("y:Q", title="Sensitivity", scale=alt.Scale(domain=[0, 1]))
    layers = [diagonal, *_lines(points, models, x, y, notes=notes or {})]
    return _finish(layers, "Receiver operating characteristic curves")


def precision_recall(
    points: pl.DataFrame, models: Sequence[str], prevalence: float, notes: Notes | None = None
) -> Chart:
    """Precision over recall; a dashed line is the prevalence, the precision of chance.

    Args:
        points: model, x (recall) and y (precision).
        models: names, the best one first.
        prevalence: share of rows with the event.
        notes: by model, e.g. its AUPRC with interval and count.
    """
    # the precision of the first few alerts jumps: it must not set the scale
    settled = points.filter(pl.col("x") >= 0.02)["y"].max()
    top = min(1.0, max(float(str(settled or 0)), prevalence) * 1.1) or 1.0
    x = alt.X("x:Q", title="Sensitivity (recall)", scale=alt.Scale(domain=[0, 1]))
    y = alt.Y("y:Q", title="Precision (PPV)", scale=alt.Scale(domain=[0, top]))
    layers = [
        _reference_line([(0, prevalence), (1, prevalence)]),
        *_lines(points.with_columns(pl.col("y").clip(0, top)), models, x, y, notes=notes or {}),
    ]
    return _finish(layers, "Precision-recall curves")


def calibration(
    points: pl.DataFrame, models: Sequence[str], shown: Sequence[str] | None = None
) -> Chart:
    """Observed over predicted frequency, both logarithmic, because most predictions are near 0.

    Args:
        points: model, x (mean predicted probability), y (observed frequency), low and high (its
            interval) and rows of each bin.
        models: names, the best one first.
        shown: models that are shown at first; None: the first three.
    """
    values = [v for c in ("x", "y", "high") for v in points[c].to_list() if v is not None and v > 0]
    low = max(min(values, default=0.01) / 1.3, _LEAST_PROBABILITY)
    high = min(1.0, max(values, default=1.0) * 1.2)
    bins = points.with_columns(pl.col("x", "y", "low", "high").clip(low, high).fill_nan(None))
    bins = bins.with_columns(observed=points["y"])
    scale = alt.Scale(type="log", domain=[low, high], nice=False)
    axis = alt.Axis(format="~g", values=_decades(low, high))
    x = alt.X("x:Q", title="Predicted probability", scale=scale, axis=axis)
    y = alt.Y("y:Q", title="Observed frequency", scale=scale, axis=axis)
    toggle = legend_toggle(models, models[:_N_CALIBRATION_SHOWN] if shown is None else shown)
    style = by_model(models, listed=points["model"].to_list())
    base = alt.Chart(make_data(bins)).transform_filter(toggle)
    tooltip = [
        alt.Tooltip("model:N", title="Model"),
        alt.Tooltip("x:Q", title="Predicted", format=".4f"),
        alt.Tooltip("observed:Q", title="Observed", format=".4f"),
        alt.Tooltip("low:Q", title="Interval, low", format=".4f"),
        alt.Tooltip("high:Q", title="Interval, high", format=".4f"),
        alt.Tooltip("rows:Q", title="Predictions in the bin", format=","),
    ]
    intervals = base.mark_rule(opacity=0.5).encode(
        x=x, y=alt.Y("low:Q", scale=scale), y2="high:Q", color=style["color"]
    )
    lines = base.mark_line(strokeWidth=1.6).encode(x=x, y=y, **style).add_params(toggle)
    dots = base.mark_circle(size=36, opacity=1).encode(
        x=x, y=y, color=style["color"], tooltip=tooltip
    )
    layers = [_reference_line([(low, low), (high, high)]), intervals, lines, dots]
    return _finish(layers, "Calibration curves with intervals")


def decision_curve(points: pl.DataFrame, models: Sequence[str], prevalence: float) -> Chart:
    """Net benefit over the threshold probability; dashed: alerts for all, and for none (0).

    Args:
        points: model, x (threshold probability) and y (net benefit, Vickers and Elkin 2006,
            doi:10.1177/0272989X06295361).
        models: names, the best one first.
        prevalence: share of rows with the event.
    """
    best = points.group_by("x").agg(pl.col("y").max()).sort("x")
    useful = [x for x, y in best.iter_rows() if y > prevalence * 0.05]
    end = min(0.95, 1.1 * max(useful, default=0.1))
    top = 1.08 * max(prevalence, *best["y"].to_list()) or 0.01
    bottom = -top / 8
    thresholds = [end * i / 100 for i in range(100)]
    alert_all = [(t, prevalence - (1 - prevalence) * t / (1 - t)) for t in thresholds]
    x = alt.X("x:Q", title="Threshold probability", scale=alt.Scale(domain=[0, end]))
    y = alt.Y("y:Q", title="Net benefit", scale=alt.Scale(domain=[bottom, top]))
    tooltip = [
        alt.Tooltip("model:N", title="Model"),
        alt.Tooltip("x:Q", title="Threshold", format=".3f"),
        alt.Tooltip("y:Q", title="Net benefit", format=".4f"),
    ]
    visible = points.filter(pl.col("x") <= end, pl.col("y") >= bottom)
    layers = [
        _reference_line([(t, value) for t, value in alert_all if value >= bottom]),
        _reference_line([(0, 0), (end, 0)]),
        *_lines(visible, models, x, y, tooltip=tooltip),
    ]
    return _finish(layers, "Decision curves")


def lead_time(shares: pl.DataFrame, models: Sequence[str], unit: str) -> Chart:
    """The share of onsets that had an alert at least so long before.

    Args:
        shares: model, lead (in units), share and onsets.
        models: names, the best one first.
        unit: plural of the unit of time, e.g. "days".
    """
    longest = max(shares["lead"].drop_nulls().to_list(), default=1.0) or 1.0
    domain = [0, longest]
    axis = alt.Axis(tickMinStep=1, format="~r")
    x = alt.X(
        "lead:Q",
        title=f"{unit.capitalize()} before onset, at least",
        scale=alt.Scale(domain=domain),
        axis=axis,
    )
    y = alt.Y(
        "share:Q",
        title="Share of onsets with an alert",
        scale=alt.Scale(domain=[0, 1]),
        axis=alt.Axis(format="%"),
    )
    tooltip = [
        alt.Tooltip("model:N", title="Model"),
        alt.Tooltip("lead:Q", title=unit.capitalize(), format="~r"),
        alt.Tooltip("share:Q", title="Onsets with an alert", format=".1%"),
        alt.Tooltip("onsets:Q", title="Onsets", format=","),
    ]
    lines = _lines(
        shares.drop_nulls("lead"), models, x, y, tooltip=tooltip, interpolate="step-before"
    )
    return _finish(lines, "Onsets with an alert by lead time")


def _lines(
    points: pl.DataFrame,
    models: Sequence[str],
    x: alt.X,
    y: alt.Y,
    *,
    notes: Notes | None = None,
    tooltip: list[alt.Tooltip] | None = None,
    interpolate: str = "linear",
) -> list[Chart]:
    """A line for each model; dots that appear under the pointer where ``tooltip`` has values.

    Args:
        points: model and the columns of x and y.
        models: names, the best one first.
        x: channel.
        y: channel.
        notes: by model, shown with its name.
        tooltip: what a point shows.
        interpolate: between the points.
    """
    toggle = legend_toggle(models)
    columns = ["model", *(c for c in points.columns if c not in {"model", "curve", "subset"})]
    drawn = points.select(columns).drop("low", "high", "rows", strict=False)
    # the best model is drawn last, above the others
    order = pl.col("model").replace_strict({m: -i for i, m in enumerate(models)}, default=0)
    base = alt.Chart(make_data(drawn.sort(order, maintain_order=True))).transform_filter(toggle)
    if tooltip is None:
        texts = {model: f"{model}: {note}" for model, note in (notes or {}).items()}
        base = base.transform_calculate(note=_lookup(texts))
        tooltip = [alt.Tooltip("note:N", title="Model")]
    lines = base.mark_line(strokeWidth=1.8, interpolate=interpolate).encode(
        x=x,
        y=y,
        **by_model(models, listed=drawn["model"].to_list()),
        tooltip=tooltip if notes is not None else alt.Undefined,
    )
    layers = [lines.add_params(toggle)]
    if notes is None and tooltip:
        of_model = pl.col("model").cum_count().over("model")
        sparse = drawn.filter(of_model % max(1, len(drawn) // (_MAX_DOTS * len(models))) == 0)
        dots = (
            alt.Chart(make_data(sparse))
            .transform_filter(toggle)
            .mark_circle(size=55, opacity=0, aria=False)
        )
        layers.append(dots.encode(x=x, y=y, tooltip=tooltip))
    return layers


def _lookup(texts: Mapping[str, str]) -> str:
    """A Vega expression: the text of ``datum.model``, or the name itself."""
    return f"{json.dumps(dict(texts))}[datum.model] || datum.model"


def _reference_line(points: Sequence[tuple[float, float]]) -> Chart:
    rows = [{"x": x, "y": y} for x, y in points]
    mark = alt.Chart({"values": rows}).mark_line(
        color=REFERENCE_COLOR, strokeWidth=1, strokeDash=[3, 3]
    )
    return mark.encode(x="x:Q", y="y:Q")


def _decades(low: float, high: float) -> list[float]:
    """Powers of ten within the range, and three times them where there are few."""
    powers = [10.0**e for e in range(-8, 1)]
    within = [p for p in powers if low <= p <= high]
    with_threes = sorted(v for p in powers for v in (p, 3 * p) if low <= v <= high)
    return with_threes if len(with_threes) <= 5 else within


def _finish(layers: Sequence[Chart], description: str) -> Chart:
    chart = alt.layer(*layers).properties(width=WIDTH, height=HEIGHT)
    return set_style(chart, description)
