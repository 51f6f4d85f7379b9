"""The report's charts. A model keeps its colour and dash, ``m0`` .. ``m11`` in the page's CSS, in all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl
from markupsafe import Markup

from flowsheet.evaluation.report.svg import WIDTH, Drawing, Plot, Scale, tick_label

STYLES = 12


def style(place: int) -> str:
    """The CSS class of the model at that place of the leaderboard."""
    return f"m{place % STYLES}"


@dataclass(frozen=True)
class Figure:
    """A value with its interval; NaN where there is none."""

    name: str
    value: float
    low: float
    high: float
    css: str


def forest(label: str, figures: Sequence[Figure], zero: bool = False) -> Markup:
    """One row a model or term: a dot and its interval on a common scale, with a line at 0 where it matters."""
    row, top = 24.0, 8.0
    bottom = top + row * len(figures)
    left, longest = (160, 25) if zero else (128, 18)  # terms have longer names than models
    draw = Drawing(f"{label} of each model with its interval", bottom + 24)
    told = [v for f in figures for v in (f.value, f.low, f.high) if not math.isnan(v)] + (
        [0.0] if zero else []
    )
    if not told:
        draw.text(WIDTH / 2, (top + bottom) / 2 + 4, "not estimable", "label", "middle")
        return draw.markup()
    margin = (max(told) - min(told)) * 0.06 or abs(told[0]) * 0.05 or 0.01
    x = Scale(min(told) - margin, max(told) + margin, left, WIDTH - 12)
    for tick in x.ticks():
        draw.line(x(tick), top, x(tick), bottom)
        draw.text(x(tick), bottom + 16, tick_label(tick), "tick", "middle")
    if zero:
        draw.line(x(0), top, x(0), bottom, "axis")
    for i, figure in enumerate(figures):
        y = top + row * (i + 0.5)
        draw.text(left - 8, y + 4, shorten(figure.name, longest), "label", "end")
        if not math.isnan(figure.low):
            draw.line(x(figure.low), y, x(figure.high), y, f"whisker {figure.css}")
        if not math.isnan(figure.value):
            draw.dot(x(figure.value), y, f"dot {figure.css}")
    return draw.markup()


def shorten(name: str, size: int) -> str:
    """A long name cut in the middle, where names differ least.

    >>> shorten("gradient_boosting_large", 12)
    'gradie…large'
    """
    return name if len(name) <= size else f"{name[: size // 2]}…{name[-(size - size // 2 - 1) :]}"


def roc(points: pl.DataFrame, models: Sequence[str]) -> Markup:
    """Receiver operating characteristic."""
    plot = Plot.square("ROC curves", ("False positive rate", "Sensitivity"), (0, 1), (0, 1))
    plot.drawing.path(plot.points([0, 1], [0, 1]), "chance")
    return _lines(plot, points, models)


def precision_recall(points: pl.DataFrame, models: Sequence[str], prevalence: float) -> Markup:
    """Precision over recall, with the prevalence as what chance would give."""
    # the first alarms are few, and their precision jumps: they must not set the scale
    settled = points.filter(pl.col("x") >= 0.02)["y"].max()
    top = min(1.0, max(float(str(settled or 0)), prevalence) * 1.1)
    plot = Plot.square(
        "Precision-recall curves", ("Sensitivity (recall)", "Precision"), (0, 1), (0, top)
    )
    plot.drawing.path(plot.points([0, 1], [prevalence, prevalence]), "chance")
    return _lines(plot, points, models)


def _lines(plot: Plot, points: pl.DataFrame, models: Sequence[str]) -> Markup:
    for place, model in reversed(list(enumerate(models))):
        line = points.filter(pl.col("model") == model)
        if len(line):
            plot.drawing.path(
                plot.points(line["x"].to_list(), line["y"].to_list()), f"curve {style(place)}"
            )
    return plot.drawing.markup()


def calibration(points: pl.DataFrame, models: Sequence[str]) -> Markup:
    """Observed over predicted frequency in bins; logarithmic, because most of the bins lie near 0."""
    told = [v for c in ("x", "y", "high") for v in points[c].to_list() if v is not None and v > 0]
    low, high = max(min(told, default=0.01) / 1.3, 1e-4), min(1.0, max(told, default=1.0) * 1.2)
    plot = Plot.square(
        "Calibration curves",
        ("Predicted probability", "Observed frequency"),
        (low, high),
        (low, high),
        True,
    )
    plot.drawing.path(plot.points([low, high], [low, high]), "chance")
    for place, model in reversed(list(enumerate(models))):
        bins = points.filter(pl.col("model") == model)
        for row in bins.iter_rows(named=True):
            x, limits = plot.x(row["x"]), (row["low"], row["high"])
            if all(v is not None and not math.isnan(v) for v in limits):
                plot.drawing.line(
                    x, plot.y(limits[0]), x, plot.y(limits[1]), f"thin {style(place)}"
                )
            plot.drawing.dot(x, plot.y(row["y"]), f"dot {style(place)}", 2.4)
        if len(bins):
            plot.drawing.path(
                plot.points(bins["x"].to_list(), bins["y"].to_list()), f"curve {style(place)}"
            )
    return plot.drawing.markup()


def decision(points: pl.DataFrame, models: Sequence[str], prevalence: float) -> Markup:
    """Net benefit over the risk from which on to act, beside alarms for everybody (dashed) and for nobody (0)."""
    best = points.group_by("x").agg(pl.col("y").max()).sort("x")
    worth = [x for x, y in best.iter_rows() if y > prevalence * 0.05]
    end = min(0.95, 1.1 * max(worth, default=0.1))
    top = 1.08 * max(prevalence, *best["y"].to_list())
    bottom = -top / 8
    plot = Plot.square(
        "Decision curves", ("Risk from which on to act", "Net benefit"), (0, end), (bottom, top)
    )
    risks = [end * i / 100 for i in range(100)]
    everybody = [(t, prevalence - (1 - prevalence) * t / (1 - t)) for t in risks]
    plot.drawing.path([(plot.x(t), plot.y(v)) for t, v in everybody if v >= bottom], "chance")
    plot.drawing.path(plot.points([0, end], [0, 0]), "chance")
    return _lines(plot, points.filter(pl.col("x") <= end, pl.col("y") >= bottom), models)


def lead_times(table: pl.DataFrame, models: Sequence[str]) -> Markup:
    """Share of the onsets that had an alarm at least so many hours before, over hours; the mean over repetitions."""
    leads = table.drop_nulls("hours").sort("hours")
    reached = (pl.col("episodes").cum_sum() / pl.col("episodes").sum()) <= 0.9
    hours: list[float] = leads["hours"].unique().sort().to_list()
    end = max(leads.filter(reached)["hours"].to_list(), default=max(hours, default=1.0))
    plot = Plot.square(
        "Lead time", ("Hours before onset, at least", "Share of onsets"), (0, end), (0, 1)
    )
    hours = [h for h in hours if h <= end]
    for place, model in reversed(list(enumerate(models))):
        mine = table.filter(pl.col("model") == model)
        if len(mine):
            plot.drawing.path(
                _stairs(plot, hours, [_share(mine, h) for h in hours]), f"curve {style(place)}"
            )
    return plot.drawing.markup()


def _share(table: pl.DataFrame, hours: float) -> float:
    """Of the onsets, those with a lead time of at least ``hours``."""
    early = pl.col("episodes").filter(pl.col("hours") >= hours).sum()
    return float(table.select(early / pl.col("episodes").sum()).item())


def _stairs(plot: Plot, xs: Sequence[float], ys: Sequence[float]) -> list[tuple[float, float]]:
    """Level up to each x, then down; nothing where there is no x.

    >>> _stairs(Plot.square("", ("", ""), (0, 1), (0, 1)), [], [])
    []
    """
    levels = zip([0.0, *xs], xs, ys, strict=False)  # the last x begins no level
    return [(plot.x(x), plot.y(y)) for start, end, y in levels for x in (start, end)]


def tuning(trials: pl.DataFrame, score: str, css: str) -> Markup | None:
    """The value of each trial, complete ones filled, and the best so far as a line."""
    known = trials.filter(pl.col("value").is_not_null() & pl.col("value").is_not_nan()).sort(
        "number"
    )
    complete = known.filter(pl.col("state") == "complete")
    if len(complete) < 2:
        return None
    plot = Plot.square(
        "Tuning history", ("Trial", score), _padded(known["number"]), _padded(known["value"])
    )
    best = complete["value"].cum_max().to_list()
    steps = [*complete["number"].to_list(), known["number"].to_list()[-1]]
    corners = [(x, y) for i, y in enumerate(best) for x in (steps[i], steps[i + 1])]
    plot.drawing.path(plot.points(*zip(*corners, strict=True)), f"curve {css} solid")
    for row in known.iter_rows(named=True):
        kind = "dot" if row["state"] == "complete" else "ring"
        plot.drawing.dot(plot.x(row["number"]), plot.y(row["value"]), f"{kind} {css}", 3)
    return plot.drawing.markup()


def training(table: pl.DataFrame, css: str) -> Markup | None:
    """The score on the validation subjects over epochs or rounds: first column across, last column up."""
    across, up = table.columns[0], table.columns[-1]
    known = table.select(pl.col(across, up).cast(pl.Float64, strict=False)).drop_nulls().drop_nans()
    if len(known) < 2 or across == up:
        return None
    plot = Plot.square(
        "Training curve", (words(across), words(up)), _padded(known[across]), _padded(known[up])
    )
    plot.drawing.path(
        plot.points(known[across].to_list(), known[up].to_list()), f"curve {css} solid"
    )
    return plot.drawing.markup()


def _padded(values: pl.Series) -> tuple[float, float]:
    low, high = (float(str(v)) for v in (values.min(), values.max()))
    margin = (high - low) * 0.05 or 0.5
    return low - margin, high + margin


def bars(
    names: Sequence[str], values: Sequence[float], title: str, end: float | None = None
) -> Markup:
    """Horizontal bars from zero, one a line, with their names; the scale ends at ``end`` or the largest value."""
    row, top = 19.0, 4.0
    bottom = top + row * len(names)
    draw = Drawing(title, bottom + 22)
    low, high = min([0.0, *values]), max([0.0, *values]) if end is None else end
    x = Scale(low, high if high > low else 1.0, 150, WIDTH - 14)
    for tick in x.ticks():
        draw.line(x(tick), top, x(tick), bottom)
        draw.text(x(tick), bottom + 15, tick_label(tick), "tick", "middle")
    for i, (name, value) in enumerate(zip(names, values, strict=True)):
        y = top + row * i
        draw.text(144, y + 13, shorten(name, 23), "label", "end")
        draw.bar(x(0), x(value), y + 4, row - 8)
    draw.line(x(0), top, x(0), bottom, "axis")
    return draw.markup()


def words(name: str) -> str:
    """A column's name as words.

    >>> words("valid_score")
    'Valid score'
    """
    return name.replace("_", " ").capitalize()
