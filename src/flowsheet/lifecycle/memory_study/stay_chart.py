"""The chart of the example stay: predictions, doses, measurements, gates and cell over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl
from markupsafe import Markup

from flowsheet.evaluation.report.charts import shorten
from flowsheet.evaluation.report.svg import Scale, tick_label
from flowsheet.lifecycle.memory_study.canvas import PAGE_WIDTH, Axes, Canvas
from flowsheet.lifecycle.memory_study.report_data import ExampleStay

GATE_CSS = {"forget": "m0", "input": "m1", "output": "m2"}
GAP = 44.0
"""Height between two panes."""


def draw_stay(stay: ExampleStay, step_unit: str) -> Markup:
    """One stay from top to bottom, with one time axis for all panes."""
    drugs = sorted(stay.doses["drug"].unique().to_list())
    variables = stay.measurements["variable"].unique(maintain_order=True).to_list()
    units = stay.cell["unit"].unique(maintain_order=True).to_list()
    heights = [96.0, 16.0 * len(drugs), 40.0 * len(variables), 104.0, 12.0 * len(units) + 8]
    total_height = sum(heights) + GAP * len(heights) + 34
    canvas = Canvas("One stay with the LSTM's gates", total_height, width=PAGE_WIDTH)
    steps = stay.predictions["step"]
    first, last = int(str(steps.min())), int(str(steps.max()))
    x = Scale(first - 0.5, last + 0.5, 132, PAGE_WIDTH - 16)
    panes, top = [], GAP - 12
    for height in heights:
        panes.append(Axes(canvas, x, Scale(0, 1, top + height, top)))
        top += height + GAP
    _draw_predictions(panes[0], stay.predictions)
    _draw_doses(panes[1], stay.doses, drugs)
    _draw_measurements(panes[2], stay.measurements, variables)
    _draw_gates(panes[3], stay.gates)
    _draw_cell(panes[4], stay.cell, units)
    panes[4].draw_x_ticks()
    x_name = f"{step_unit.removesuffix('s')} of the stay"
    middle = (x.start + x.end) / 2
    canvas.text(middle, panes[4].y.start + 32, x_name, "axis-name", "middle")
    return canvas.markup()


def _draw_title(pane: Axes, title: str, keys: Mapping[str, str] | None = None) -> None:
    """The title of a pane, and a key (label: CSS class) for each of its lines."""
    pane.canvas.text(0, pane.y.end - 10, title, "label strong")
    x = 330.0
    for label, css in (keys or {}).items():
        y = pane.y.end - 14
        pane.canvas.path([(x, y), (x + 20, y)], f"curve solid {css}")
        pane.canvas.text(x + 26, pane.y.end - 10, label, "tick")
        x += 44 + 6.2 * len(label)


def _draw_predictions(pane: Axes, predictions: pl.DataFrame) -> None:
    keys = {"oracle": "truth", "LSTM": "m0", "septic in this step": "m1 septic-key"}
    _draw_title(pane, "Probability of sepsis in the next step", keys)
    half = _half_step(pane)
    for step in predictions.filter(pl.col("septic"))["step"]:
        corner = (pane.x(step) - half, pane.y.end)
        size = (2 * half, pane.y.start - pane.y.end)
        pane.canvas.tile(corner, size, "septic-step", 0.16)
    pane.draw()
    pane.line(predictions["step"], predictions["oracle"], "curve truth")
    pane.line(predictions["step"], predictions["model"], "curve solid m0")


def _draw_doses(pane: Axes, doses: pl.DataFrame, drugs: Sequence[str]) -> None:
    _draw_title(pane, "Doses (area: amount in reference doses)")
    for i, drug in enumerate(drugs):
        y = pane.y.end + 16 * (i + 0.5)
        pane.canvas.line(pane.x.start, y, pane.x.end, y)
        pane.canvas.text(pane.x.start - 8, y + 4, shorten(drug, 20), "tick", "end")
        for step, amount in doses.filter(drug=drug).select("step", "doses").iter_rows():
            radius = round(min(4.4 * amount**0.5, 7), 2)
            pane.canvas.dot(pane.x(step), y, "dot m5", radius)


def _draw_measurements(pane: Axes, measurements: pl.DataFrame, variables: Sequence[str]) -> None:
    _draw_title(pane, "Latest measurements")
    for i, variable in enumerate(variables):
        values = measurements.filter(variable=variable)
        low, high = float(str(values["value"].min())), float(str(values["value"].max()))
        y = Scale(low, high, pane.y.end + 40 * (i + 1) - 6, pane.y.end + 40 * i + 6)
        limits = f"{tick_label(low)} to {tick_label(high)}"
        pane.canvas.text(pane.x.start - 8, y.start - 18, variable, "tick", "end")
        pane.canvas.text(pane.x.start - 8, y.start - 4, limits, "tick", "end")
        pane.canvas.line(pane.x.start, y.start + 4, pane.x.end, y.start + 4)
        Axes(pane.canvas, pane.x, y).line(values["step"], values["value"], "curve solid m6")


def _draw_gates(pane: Axes, gates: pl.DataFrame) -> None:
    keys = {f"{gate} gate": css for gate, css in GATE_CSS.items()}
    _draw_title(pane, "Gates: mean over units; band: four fifths of them", keys)
    pane.draw()
    for gate, css in GATE_CSS.items():
        line = gates.filter(gate=gate)
        steps, low, high = line["step"].to_list(), line["low"].to_list(), line["high"].to_list()
        pane.band(steps, low, high, f"band {css}")
        pane.line(line["step"], line["mean"], f"curve solid {css}")


def _draw_cell(pane: Axes, cell: pl.DataFrame, units: Sequence[int]) -> None:
    title = "Cell: the units with the largest variation (blue below 0, orange above)"
    _draw_title(pane, title)
    half = _half_step(pane)
    largest = float(str(cell["value"].abs().max())) or 1.0
    for i, unit in enumerate(units):
        y = pane.y.end + 12 * i
        pane.canvas.text(pane.x.start - 8, y + 10, f"unit {unit}", "tick", "end")
        for step, value in cell.filter(unit=unit).select("step", "value").iter_rows():
            css = "positive" if value > 0 else "negative"
            corner = (pane.x(step) - half, y)
            pane.canvas.tile(corner, (2 * half, 11.4), css, abs(value) / largest)


def _half_step(pane: Axes) -> float:
    """Half the width of a step."""
    return (pane.x.end - pane.x.start) / (pane.x.high - pane.x.low) / 2
