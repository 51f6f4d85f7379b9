"""Charts of the memory study: true and learned effects, gradients by lag, the oracle bound."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import polars as pl
from markupsafe import Markup

from flowsheet.evaluation.report.charts import Estimate, draw_forest, shorten
from flowsheet.evaluation.report.svg import WIDTH, Scale
from flowsheet.lifecycle.memory_study.canvas import PAGE_WIDTH, Axes, Canvas
from flowsheet.lifecycle.memory_study.oracle_bound import SHARE

MIN_RANGE = 0.5
"""Scales of effects extend at least this far from 0, so that negligible effects look negligible."""


def draw_effect(
    drug: str, truth: pl.DataFrame, learned: pl.DataFrame, css: Mapping[str, str], step_unit: str
) -> Markup:
    """One drug: the true effect, and the learned ones with their intervals.

    Args:
        drug: its name.
        truth: lag and effect.
        learned: model, lag, response, low and high.
        css: class of each model.
        step_unit: plural name of a step.
    """
    limits = [*learned["low"].drop_nans(), *learned["high"].drop_nans()]
    values = [*truth["effect"], *learned["response"], *limits]
    canvas = Canvas(f"Effect of one dose of {drug}", 272.0)
    lag = truth["lag"].to_list()
    x = Scale(0, max(lag[-1], 1), 46, WIDTH - 12)
    axes = Axes(canvas, x, Scale(*_padded(values), 230, 24))
    axes.draw(f"{step_unit} since the dose", "Effect on the log odds")
    axes.line([0, lag[-1]], [0, 0], "chance")
    axes.line(lag, truth["effect"], "curve truth")
    for (model,), line in learned.group_by("model", maintain_order=True):
        if line["low"].is_finite().all():
            low, high = line["low"].to_list(), line["high"].to_list()
            axes.band(lag, low, high, f"band {css[str(model)]}")
        axes.line(lag, line["response"], f"curve {css[str(model)]}")
    return canvas.markup()


def _padded(values: Iterable[float], share: float = 0.06) -> tuple[float, float]:
    values = [-MIN_RANGE, MIN_RANGE, *values]
    margin = (max(values) - min(values)) * share or 0.5
    return min(values) - margin, max(values) + margin


def draw_effect_matrix(
    truth: pl.DataFrame,
    learned: pl.DataFrame,
    models: Sequence[str],
    css: Mapping[str, str],
    step_unit: str,
) -> Markup:
    """Every model by every drug: the true effect as a grey area, the learned one as a line.

    Args:
        truth: drug, shape, lag and effect; each drug has its own scale.
        learned: model, drug, lag and response.
        models: from top to bottom.
        css: class of each model.
        step_unit: plural name of a step.
    """
    drugs = truth["drug"].unique(maintain_order=True).to_list()
    left, top, row_height, gap = 132.0, 46.0, 46.0, 10.0
    column_width = (PAGE_WIDTH - left) / len(drugs)
    bottom = top + row_height * len(models)
    title = "True and learned effect of a dose, every model by every drug"
    canvas = Canvas(title, bottom + 44, width=PAGE_WIDTH)
    for j, drug in enumerate(drugs):
        effect, responses = truth.filter(drug=drug), learned.filter(drug=drug)
        scale = _padded([*effect["effect"], *responses["response"]], 0.02)
        lag = effect["lag"].to_list()
        start, end = left + column_width * j + gap, left + column_width * (j + 1) - 4
        x = Scale(0, max(lag[-1], 1), start, end)
        canvas.text(start, top - 24, shorten(drug, 14), "label")
        canvas.text(start, top - 10, _describe_curve(effect), "tick")
        for i, model in enumerate(models):
            y = Scale(*scale, top + row_height * (i + 1) - 4, top + row_height * i + 4)
            axes = Axes(canvas, x, y)
            axes.band(lag, [0.0] * len(lag), effect["effect"].to_list(), "true-effect")
            axes.line([0, lag[-1]], [0, 0], "grid")
            line = responses.filter(model=model)
            axes.line(lag, line["response"], f"curve solid {css[model]}")
        Axes(canvas, x, Scale(0, 1, bottom, top)).draw_x_ticks()
    for i, model in enumerate(models):
        y_middle = top + row_height * (i + 0.5) + 4
        canvas.text(left - 8, y_middle, shorten(model, 19), "label", "end")
    x_middle = left + (PAGE_WIDTH - left) / 2
    canvas.text(x_middle, bottom + 36, f"{step_unit} since the dose", "axis-name", "middle")
    return canvas.markup()


def _describe_curve(effect: pl.DataFrame) -> str:
    """The shape of a drug's curve and its largest effect."""
    peak = max(effect["effect"].to_list(), key=abs)
    return f"{effect['shape'][0]}, {peak:+.1f}" if peak else "no effect"


def draw_gradients(
    gradients: pl.DataFrame, marked_lag: int, css: Mapping[str, str], step_unit: str
) -> Markup:
    """The gradients' norm relative to lag 0, on a logarithmic axis.

    The geometric mean over replicates, and each replicate as a thin line.

    Args:
        gradients: replicate, model, lag and relative.
        marked_lag: the lag that the text compares.
        css: class of each model.
        step_unit: plural name of a step.
    """
    low = max(float(str(gradients["relative"].min())) / 1.5, 1e-8)
    high = max(float(str(gradients["relative"].max())) * 1.3, 1.3)
    end = int(str(gradients["lag"].max()))
    canvas = Canvas("Gradient of the last prediction by earlier inputs", 272.0)
    axes = Axes(canvas, Scale(0, max(end, 1), 52, WIDTH - 12), Scale(low, high, 230, 24, log=True))
    axes.draw(f"{step_unit} back", "Gradient relative to lag 0")
    if marked_lag <= end:
        x = axes.x(marked_lag)
        canvas.line(x, axes.y.start, x, axes.y.end, "chance")
    for (model,), rows in gradients.group_by("model", maintain_order=True):
        for _, line in rows.group_by("replicate", maintain_order=True):
            axes.line(line["lag"], line["relative"], f"thin-line {css[str(model)]}")
        geometric_mean = pl.col("relative").log().mean().exp()
        mean = rows.group_by("lag", maintain_order=True).agg(geometric_mean)
        axes.line(mean["lag"], mean["relative"], f"curve {css[str(model)]}")
    return canvas.markup()


def draw_oracle_shares(
    scores: pl.DataFrame, models: Sequence[str], css: Mapping[str, str]
) -> Markup:
    """Each model's share of the oracle bound, with the interval over subjects."""
    rows = {row["model"]: row for row in scores.filter(metric=SHARE).iter_rows(named=True)}
    estimates = [
        Estimate(model, rows[model]["value"], rows[model]["low"], rows[model]["high"], css[model])
        for model in models
    ]
    return draw_forest("Share of the oracle bound", estimates)
