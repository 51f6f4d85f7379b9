"""The charts of the report.

A model has the same colour and dash pattern in all of them: ``m0`` .. ``m11`` in the page's CSS.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl
from markupsafe import Markup

from flowsheet.evaluation.report.svg import WIDTH, Drawing, Plot, Scale, tick_label

N_STYLES = 12


def css_class(rank: int) -> str:
    """The CSS class of the model at that rank of the leaderboard, counted from 0."""
    return f"m{rank % N_STYLES}"


@dataclass(frozen=True)
class Estimate:
    """A value with its interval; NaN where there is none."""

    name: str
    value: float
    low: float
    high: float
    css: str


def draw_forest(label: str, estimates: Sequence[Estimate], show_zero: bool = False) -> Markup:
    """A forest plot: one row an estimate, a dot and its interval on a common scale."""
    row_height, top = 24.0, 8.0
    bottom = top + row_height * len(estimates)
    # terms of a regression, which have a line at 0, have longer names than models
    left, longest_name = (160, 25) if show_zero else (128, 18)
    drawing = Drawing(f"{label} of each model with its interval", bottom + 24)
    values = [v for e in estimates for v in (e.value, e.low, e.high) if not math.isnan(v)]
    if show_zero:
        values.append(0.0)
    if not values:
        drawing.text(WIDTH / 2, (top + bottom) / 2 + 4, "not estimable", "label", "middle")
        return drawing.markup()
    margin = (max(values) - min(values)) * 0.06 or abs(values[0]) * 0.05 or 0.01
    x = Scale(min(values) - margin, max(values) + margin, left, WIDTH - 12)
    for tick in x.ticks():
        drawing.line(x(tick), top, x(tick), bottom)
        drawing.text(x(tick), bottom + 16, tick_label(tick), "tick", "middle")
    if show_zero:
        drawing.line(x(0), top, x(0), bottom, "axis")
    for i, estimate in enumerate(estimates):
        y = top + row_height * (i + 0.5)
        drawing.text(left - 8, y + 4, shorten(estimate.name, longest_name), "label", "end")
        if not math.isnan(estimate.low):
            drawing.line(x(estimate.low), y, x(estimate.high), y, f"whisker {estimate.css}")
        if not math.isnan(estimate.value):
            drawing.dot(x(estimate.value), y, f"dot {estimate.css}")
    return drawing.markup()


def shorten(name: str, size: int) -> str:
    """A long name cut in the middle, where names differ least.

    >>> shorten("gradient_boosting_large", 12)
    'gradie…large'
    """
    return name if len(name) <= size else f"{name[: size // 2]}…{name[-(size - size // 2 - 1) :]}"


def draw_roc(points: pl.DataFrame, models: Sequence[str]) -> Markup:
    """Receiver operating characteristic curves."""
    plot = Plot.square("ROC curves", ("False positive rate", "Sensitivity"), (0, 1), (0, 1))
    plot.drawing.path(plot.points([0, 1], [0, 1]), "chance")
    return _draw_lines(plot, points, models)


def draw_precision_recall(points: pl.DataFrame, models: Sequence[str], prevalence: float) -> Markup:
    """Precision over recall, with the prevalence as the precision of chance."""
    # the precision of the first few alerts jumps: it must not set the scale
    settled = points.filter(pl.col("x") >= 0.02)["y"].max()
    top = min(1.0, max(float(str(settled or 0)), prevalence) * 1.1)
    axes = ("Sensitivity (recall)", "Precision")
    plot = Plot.square("Precision-recall curves", axes, (0, 1), (0, top))
    plot.drawing.path(plot.points([0, 1], [prevalence, prevalence]), "chance")
    return _draw_lines(plot, points, models)


def _draw_lines(plot: Plot, points: pl.DataFrame, models: Sequence[str]) -> Markup:
    """One line a model; the best model is drawn last, above the others."""
    for rank, model in reversed(list(enumerate(models))):
        line = points.filter(pl.col("model") == model)
        if len(line):
            path = plot.points(line["x"].to_list(), line["y"].to_list())
            plot.drawing.path(path, f"curve {css_class(rank)}")
    return plot.drawing.markup()


def draw_calibration(points: pl.DataFrame, models: Sequence[str]) -> Markup:
    """Observed over predicted frequency in bins; logarithmic, because most bins lie near 0."""
    values = [v for c in ("x", "y", "high") for v in points[c].to_list() if v is not None and v > 0]
    low = max(min(values, default=0.01) / 1.3, 1e-4)
    high = min(1.0, max(values, default=1.0) * 1.2)
    axes = ("Predicted probability", "Observed frequency")
    plot = Plot.square("Calibration curves", axes, (low, high), (low, high), log=True)
    plot.drawing.path(plot.points([low, high], [low, high]), "chance")
    for rank, model in reversed(list(enumerate(models))):
        bins = points.filter(pl.col("model") == model)
        css = css_class(rank)
        for row in bins.iter_rows(named=True):
            x, limits = plot.x(row["x"]), (row["low"], row["high"])
            if all(v is not None and not math.isnan(v) for v in limits):
                plot.drawing.line(x, plot.y(limits[0]), x, plot.y(limits[1]), f"thin {css}")
            plot.drawing.dot(x, plot.y(row["y"]), f"dot {css}", 2.4)
        if len(bins):
            path = plot.points(bins["x"].to_list(), bins["y"].to_list())
            plot.drawing.path(path, f"curve {css}")
    return plot.drawing.markup()


def draw_decision_curves(points: pl.DataFrame, models: Sequence[str], prevalence: float) -> Markup:
    """Net benefit over the threshold probability, with alerts for all (dashed) and for none (0)."""
    best = points.group_by("x").agg(pl.col("y").max()).sort("x")
    useful = [x for x, y in best.iter_rows() if y > prevalence * 0.05]
    end = min(0.95, 1.1 * max(useful, default=0.1))
    top = 1.08 * max(prevalence, *best["y"].to_list())
    bottom = -top / 8
    axes = ("Threshold probability", "Net benefit")
    plot = Plot.square("Decision curves", axes, (0, end), (bottom, top))
    thresholds = [end * i / 100 for i in range(100)]
    alert_all = [(t, prevalence - (1 - prevalence) * t / (1 - t)) for t in thresholds]
    plot.drawing.path([(plot.x(t), plot.y(v)) for t, v in alert_all if v >= bottom], "chance")
    plot.drawing.path(plot.points([0, end], [0, 0]), "chance")
    return _draw_lines(plot, points.filter(pl.col("x") <= end, pl.col("y") >= bottom), models)


def draw_lead_times(table: pl.DataFrame, models: Sequence[str]) -> Markup:
    """Share of the onsets with an alert at least so many hours before; mean over repetitions."""
    leads = table.drop_nulls("hours").sort("hours")
    is_in_first_90_percent = (pl.col("episodes").cum_sum() / pl.col("episodes").sum()) <= 0.9
    hours: list[float] = leads["hours"].unique().sort().to_list()
    longest = max(hours, default=1.0)
    end = max(leads.filter(is_in_first_90_percent)["hours"].to_list(), default=longest)
    axes = ("Hours before onset, at least", "Share of onsets")
    plot = Plot.square("Lead time", axes, (0, end), (0, 1))
    hours = [h for h in hours if h <= end]
    for rank, model in reversed(list(enumerate(models))):
        of_model = table.filter(pl.col("model") == model)
        if len(of_model):
            shares = [_share_at_least(of_model, h) for h in hours]
            plot.drawing.path(_staircase(plot, hours, shares), f"curve {css_class(rank)}")
    return plot.drawing.markup()


def _share_at_least(table: pl.DataFrame, hours: float) -> float:
    """The share of the onsets with a lead time of at least ``hours``."""
    n_early = pl.col("episodes").filter(pl.col("hours") >= hours).sum()
    return float(table.select(n_early / pl.col("episodes").sum()).item())


def _staircase(plot: Plot, xs: Sequence[float], ys: Sequence[float]) -> list[tuple[float, float]]:
    """A line that has the level ``ys[i]`` up to ``xs[i]``.

    >>> _staircase(Plot.square("", ("", ""), (0, 1), (0, 1)), [], [])
    []
    """
    levels = zip([0.0, *xs], xs, ys, strict=False)  # no level begins at the last x
    return [(plot.x(x), plot.y(y)) for start, end, y in levels for x in (start, end)]


def draw_tuning_history(trials: pl.DataFrame, score: str, css: str) -> Markup | None:
    """The value of each trial, complete ones filled, and the best so far as a line.

    Args:
        trials: number, state and value of each trial.
        score: what the value is, for the axis.
        css: class of the model.
    """
    is_known = pl.col("value").is_not_null() & pl.col("value").is_not_nan()
    known = trials.filter(is_known).sort("number")
    complete = known.filter(pl.col("state") == "complete")
    if len(complete) < 2:
        return None
    axes = ("Trial", score)
    plot = Plot.square("Tuning history", axes, _padded(known["number"]), _padded(known["value"]))
    best = complete["value"].cum_max().to_list()
    steps = [*complete["number"].to_list(), known["number"].to_list()[-1]]
    corners = [(x, y) for i, y in enumerate(best) for x in (steps[i], steps[i + 1])]
    plot.drawing.path(plot.points(*zip(*corners, strict=True)), f"curve {css} solid")
    for row in known.iter_rows(named=True):
        marker = "dot" if row["state"] == "complete" else "open-dot"
        plot.drawing.dot(plot.x(row["number"]), plot.y(row["value"]), f"{marker} {css}", 3)
    return plot.drawing.markup()


def draw_training_curve(table: pl.DataFrame, css: str) -> Markup | None:
    """A score over epochs or rounds: the last column of the table over its first."""
    x_column, y_column = table.columns[0], table.columns[-1]
    numbers = table.select(pl.col(x_column, y_column).cast(pl.Float64, strict=False))
    known = numbers.drop_nulls().drop_nans()
    if len(known) < 2 or x_column == y_column:
        return None
    axes = (humanize(x_column), humanize(y_column))
    x, y = known[x_column], known[y_column]
    plot = Plot.square("Training curve", axes, _padded(x), _padded(y))
    plot.drawing.path(plot.points(x.to_list(), y.to_list()), f"curve {css} solid")
    return plot.drawing.markup()


def _padded(values: pl.Series) -> tuple[float, float]:
    low, high = float(str(values.min())), float(str(values.max()))
    margin = (high - low) * 0.05 or 0.5
    return low - margin, high + margin


def draw_bars(
    names: Sequence[str], values: Sequence[float], title: str, end: float | None = None
) -> Markup:
    """Horizontal bars from zero, one a line, with their names.

    Args:
        names: of the bars, from top to bottom.
        values: their lengths.
        title: for screen readers.
        end: where the scale ends; None: at the largest value.
    """
    row_height, top = 19.0, 4.0
    bottom = top + row_height * len(names)
    drawing = Drawing(title, bottom + 22)
    low = min([0.0, *values])
    high = max([0.0, *values]) if end is None else end
    x = Scale(low, high if high > low else 1.0, 150, WIDTH - 14)
    for tick in x.ticks():
        drawing.line(x(tick), top, x(tick), bottom)
        drawing.text(x(tick), bottom + 15, tick_label(tick), "tick", "middle")
    for i, (name, value) in enumerate(zip(names, values, strict=True)):
        y = top + row_height * i
        drawing.text(144, y + 13, shorten(name, 23), "label", "end")
        drawing.bar(x(0), x(value), y + 4, row_height - 8)
    drawing.line(x(0), top, x(0), bottom, "axis")
    return drawing.markup()


def humanize(name: str) -> str:
    """The name of a column for people.

    >>> humanize("valid_score")
    'Valid score'
    """
    return name.replace("_", " ").capitalize()
