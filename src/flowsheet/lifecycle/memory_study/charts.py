"""The memory study's drawings: true and learned effects, reaching gradients, the ceiling, one stay with its gates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl
from markupsafe import Markup

from flowsheet.evaluation.report.charts import Estimate, draw_forest, shorten
from flowsheet.evaluation.report.svg import WIDTH, Drawing, Scale, tick_label
from flowsheet.lifecycle.memory_study.report_data import StayReport

BROAD = 960.0
"""Width of a drawing that fills the page."""
LEAST = 0.5
"""Scales of effects reach at least this far from 0, so that next to nothing looks like it."""
Points = Sequence[tuple[float, float]]


@dataclass
class Canvas(Drawing):
    """A drawing of any width, with areas."""

    width: float = WIDTH

    def area(self, points: Points, css: str) -> None:
        """A filled shape through points."""
        where = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        self._add('<path d="M{}Z" class="{}"/>', where, css)

    def tile(
        self, corner: tuple[float, float], size: tuple[float, float], css: str, opacity: float
    ) -> None:
        """A filled rectangle, more or less strong."""
        template = '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" class="{}" opacity="{:.2f}"/>'
        self._add(template, *corner, *size, css, opacity)

    def markup(self) -> Markup:
        """The drawing for a page."""
        head = Markup('<svg viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}" class="{}">')
        css = "broad" if self.width > WIDTH else ""
        return (
            head.format(self.width, self.height, self.title, css)
            + Markup("").join(self._marks)
            + Markup("</svg>")
        )


@dataclass(frozen=True)
class Axes:
    """A rectangle of a canvas with two scales."""

    canvas: Canvas
    x: Scale
    y: Scale

    def frame(self, across: str = "", up: str = "") -> None:
        """Grid, ticks and the names of the axes, where they have one."""
        for tick in self.y.ticks():
            self.canvas.line(self.x.start, self.y(tick), self.x.end, self.y(tick))
            self.canvas.text(self.x.start - 6, self.y(tick) + 4, tick_label(tick), "tick", "end")
        self.canvas.line(self.x.start, self.y.start, self.x.end, self.y.start, "axis")
        self.canvas.text(self.x.start - 40, self.y.end - 10, up, "axis-name")
        if across:
            self.ticks_across()
            middle = (self.x.start + self.x.end) / 2
            self.canvas.text(middle, self.y.start + 34, across, "axis-name", "middle")

    def ticks_across(self) -> None:
        """Ticks below."""
        for tick in self.x.ticks():
            self.canvas.line(self.x(tick), self.y.start, self.x(tick), self.y.start + 4, "axis")
            self.canvas.text(self.x(tick), self.y.start + 16, tick_label(tick), "tick", "middle")

    def line(self, xs: Iterable[float], ys: Iterable[float], css: str) -> None:
        """A line through values."""
        self.canvas.path([(self.x(a), self.y(b)) for a, b in zip(xs, ys, strict=True)], css)

    def band(
        self, xs: Sequence[float], low: Sequence[float], high: Sequence[float], css: str
    ) -> None:
        """An area between two lines."""
        ahead = [(self.x(a), self.y(b)) for a, b in zip(xs, low, strict=True)]
        back = [(self.x(a), self.y(b)) for a, b in zip(xs, high, strict=True)]
        self.canvas.area([*ahead, *back[::-1]], css)


def _padded(values: Iterable[float], share: float = 0.06) -> tuple[float, float]:
    told = [-LEAST, LEAST, *values]
    margin = (max(told) - min(told)) * share or 0.5
    return min(told) - margin, max(told) + margin


def effect(
    drug: str, truth: pl.DataFrame, learned: pl.DataFrame, css: Mapping[str, str], unit: str
) -> Markup:
    """One drug: the law's curve and the models' with their intervals; ``learned`` as ``summarised`` gives it."""
    reach = [
        *truth["effect"],
        *learned["response"],
        *learned["low"].drop_nans(),
        *learned["high"].drop_nans(),
    ]
    canvas = Canvas(f"What one dose of {drug} does", 272.0)
    lag = truth["lag"].to_list()
    axes = Axes(canvas, Scale(0, max(lag[-1], 1), 46, WIDTH - 12), Scale(*_padded(reach), 230, 24))
    axes.frame(f"{unit} since the dose", "Effect on the log odds")
    axes.line([0, lag[-1]], [0, 0], "chance")
    axes.line(lag, truth["effect"], "curve truth")
    for (model,), line in learned.group_by("model", maintain_order=True):
        told = line.filter(pl.col("low").is_finite())
        if len(told) == len(line):
            axes.band(lag, told["low"].to_list(), told["high"].to_list(), f"band {css[str(model)]}")
        axes.line(lag, line["response"], f"curve {css[str(model)]}")
    return canvas.markup()


def matrix(
    truth: pl.DataFrame,
    learned: pl.DataFrame,
    models: Sequence[str],
    css: Mapping[str, str],
    unit: str,
) -> Markup:
    """Every model by every drug: the law's curve as a grey area, the learned one as a line; one scale a drug."""
    drugs = truth["drug"].unique(maintain_order=True).to_list()
    left, top, row, gap = 132.0, 46.0, 46.0, 10.0
    column = (BROAD - left) / len(drugs)
    bottom = top + row * len(models)
    canvas = Canvas(
        "True and learned effect of a dose, every model by every drug", bottom + 44, width=BROAD
    )
    for j, drug in enumerate(drugs):
        law = truth.filter(drug=drug)
        found = learned.filter(drug=drug)
        scale = _padded([*law["effect"], *found["response"]], 0.02)
        lag = law["lag"].to_list()
        across = Scale(0, max(lag[-1], 1), left + column * j + gap, left + column * (j + 1) - 4)
        canvas.text(across.start, top - 24, shorten(drug, 14), "label")
        canvas.text(across.start, top - 10, _said(law), "tick")
        for i, model in enumerate(models):
            axes = Axes(canvas, across, Scale(*scale, top + row * (i + 1) - 4, top + row * i + 4))
            axes.band(lag, [0.0] * len(lag), law["effect"].to_list(), "law")
            axes.line([0, lag[-1]], [0, 0], "grid")
            line = found.filter(model=model)
            axes.line(lag, line["response"], f"curve solid {css[model]}")
        low = Axes(canvas, across, Scale(0, 1, bottom, top))
        low.ticks_across()
    for i, model in enumerate(models):
        canvas.text(left - 8, top + row * (i + 0.5) + 4, shorten(model, 19), "label", "end")
    canvas.text(
        left + (BROAD - left) / 2, bottom + 36, f"{unit} since the dose", "axis-name", "middle"
    )
    return canvas.markup()


def _said(law: pl.DataFrame) -> str:
    """A drug's curve in a word, and its largest effect."""
    peak = max(law["effect"].to_list(), key=abs)
    return f"{law['shape'][0]}, {peak:+.1f}" if peak else "no effect"


def reach(gradients: pl.DataFrame, far: int, css: Mapping[str, str], unit: str) -> Markup:
    """The gradients' norm relative to lag 0, on a logarithmic axis: the mean, and each replicate as a thin line."""
    low = max(float(str(gradients["relative"].min())) / 1.5, 1e-8)
    high = max(float(str(gradients["relative"].max())) * 1.3, 1.3)
    end = int(str(gradients["lag"].max()))
    canvas = Canvas("How strongly today's prediction hangs on earlier inputs", 272.0)
    axes = Axes(canvas, Scale(0, max(end, 1), 52, WIDTH - 12), Scale(low, high, 230, 24, log=True))
    axes.frame(f"{unit} back", "Gradient, relative to its lag 0")
    if far <= end:
        canvas.line(axes.x(far), axes.y.start, axes.x(far), axes.y.end, "chance")
    for (model,), found in gradients.group_by("model", maintain_order=True):
        for _, line in found.group_by("replicate", maintain_order=True):
            axes.line(line["lag"], line["relative"], f"thin-line {css[str(model)]}")
        mean = found.group_by("lag", maintain_order=True).agg(pl.col("relative").log().mean().exp())
        axes.line(mean["lag"], mean["relative"], f"curve {css[str(model)]}")
    return canvas.markup()


def ceiling(figures: pl.DataFrame, models: Sequence[str], css: Mapping[str, str]) -> Markup:
    """Each model's share of the way from the baseline to the law, with the interval over subjects."""
    lines = {line["model"]: line for line in figures.filter(metric="share").iter_rows(named=True)}
    rows = [
        Estimate(m, lines[m]["value"], lines[m]["low"], lines[m]["high"], css[m]) for m in models
    ]
    return draw_forest("Share of the ceiling reached", rows)


GATES = {"forget": "m0", "input": "m1", "output": "m2"}


def stay(told: StayReport, unit: str) -> Markup:
    """One stay from top to bottom: risk, doses, measurements, gates, cell; one axis of time for all."""
    risk, doses, labs, cell = told.risk, told.doses, told.labs, told.cell
    drugs = sorted(doses["drug"].unique().to_list())
    variables = labs["variable"].unique(maintain_order=True).to_list()
    units = cell["unit"].unique(maintain_order=True).to_list()
    heights = [96.0, 16.0 * len(drugs), 40.0 * len(variables), 104.0, 12.0 * len(units) + 8]
    spare = 44.0
    canvas = Canvas(
        "One stay with the LSTM's gates", sum(heights) + spare * len(heights) + 34, width=BROAD
    )
    first, last = int(str(risk["step"].min())), int(str(risk["step"].max()))
    x = Scale(first - 0.5, last + 0.5, 132, BROAD - 16)
    tops, top = [], spare - 12
    for height in heights:
        tops.append(top)
        top += height + spare
    panes = [
        Axes(canvas, x, Scale(0, 1, at + height, at))
        for at, height in zip(tops, heights, strict=True)
    ]
    _risk(panes[0], risk)
    _doses(panes[1], doses, drugs)
    _labs(panes[2], labs, variables)
    _gates(panes[3], told.gates)
    _cell(panes[4], cell, units)
    panes[4].ticks_across()
    canvas.text(
        (x.start + x.end) / 2,
        panes[4].y.start + 32,
        f"{unit.removesuffix('s')} of the stay",
        "axis-name",
        "middle",
    )
    return canvas.markup()


def _headed(pane: Axes, title: str, keys: Mapping[str, str] | None = None) -> None:
    pane.canvas.text(0, pane.y.end - 10, title, "label strong")
    at = 330.0
    for words, css in (keys or {}).items():
        pane.canvas.path([(at, pane.y.end - 14), (at + 20, pane.y.end - 14)], f"curve solid {css}")
        pane.canvas.text(at + 26, pane.y.end - 10, words, "tick")
        at += 44 + 6.2 * len(words)


def _risk(pane: Axes, risk: pl.DataFrame) -> None:
    _headed(
        pane,
        "Probability of sepsis in the next step",
        {"the law": "truth", "the LSTM": "m0", "septic now": "m1 septic"},
    )
    half = _half(pane)
    for step in risk.filter(pl.col("septic"))["step"]:
        pane.canvas.tile(
            (pane.x(step) - half, pane.y.end), (2 * half, pane.y.start - pane.y.end), "now", 0.16
        )
    pane.frame()
    pane.line(risk["step"], risk["law"], "curve truth")
    pane.line(risk["step"], risk["risk"], "curve solid m0")


def _doses(pane: Axes, doses: pl.DataFrame, drugs: Sequence[str]) -> None:
    _headed(pane, "Doses given (area: amount in reference doses)")
    for i, drug in enumerate(drugs):
        y = pane.y.end + 16 * (i + 0.5)
        pane.canvas.line(pane.x.start, y, pane.x.end, y)
        pane.canvas.text(pane.x.start - 8, y + 4, shorten(drug, 20), "tick", "end")
        for step, amount in doses.filter(drug=drug).select("step", "doses").iter_rows():
            pane.canvas.dot(pane.x(step), y, "dot m5", round(min(4.4 * amount**0.5, 7), 2))


def _labs(pane: Axes, labs: pl.DataFrame, variables: Sequence[str]) -> None:
    _headed(pane, "Latest measurements")
    for i, variable in enumerate(variables):
        told = labs.filter(variable=variable)
        low, high = float(str(told["value"].min())), float(str(told["value"].max()))
        up = Scale(low, high, pane.y.end + 40 * (i + 1) - 6, pane.y.end + 40 * i + 6)
        small = Axes(pane.canvas, pane.x, up)
        pane.canvas.text(pane.x.start - 8, up.start - 18, variable, "tick", "end")
        pane.canvas.text(
            pane.x.start - 8,
            up.start - 4,
            f"{tick_label(low)} to {tick_label(high)}",
            "tick",
            "end",
        )
        pane.canvas.line(pane.x.start, up.start + 4, pane.x.end, up.start + 4)
        small.line(told["step"], told["value"], "curve solid m6")


def _gates(pane: Axes, gates: pl.DataFrame) -> None:
    _headed(
        pane,
        "Gates: mean over units, band: four fifths of them",
        {f"{name} gate": css for name, css in GATES.items()},
    )
    pane.frame()
    for name, css in GATES.items():
        line = gates.filter(gate=name)
        pane.band(
            line["step"].to_list(), line["low"].to_list(), line["high"].to_list(), f"band {css}"
        )
        pane.line(line["step"], line["mean"], f"curve solid {css}")


def _cell(pane: Axes, cell: pl.DataFrame, units: Sequence[int]) -> None:
    _headed(pane, "Cell: the units that moved most (blue below 0, orange above)")
    half = _half(pane)
    most = float(str(cell["value"].abs().max())) or 1.0
    for i, unit in enumerate(units):
        y = pane.y.end + 12 * i
        pane.canvas.text(pane.x.start - 8, y + 10, f"unit {unit}", "tick", "end")
        for step, value in cell.filter(unit=unit).select("step", "value").iter_rows():
            css = "above" if value > 0 else "below"
            pane.canvas.tile((pane.x(step) - half, y), (2 * half, 11.4), css, abs(value) / most)


def _half(pane: Axes) -> float:
    """Half the width of a step."""
    return (pane.x.end - pane.x.start) / (pane.x.high - pane.x.low) / 2
