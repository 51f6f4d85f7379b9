"""What all charts share: colours, fonts, sizes, and how frames become data of a chart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import polars as pl

PALETTE = (
    *("#0072b2", "#d55e00", "#009e73", "#b0568c", "#c98a00", "#3f9bd1"),
    *("#5f6973", "#7a5c3e", "#a3153c", "#5a4fcf", "#7b8400", "#d977b4"),
)
"""Colours that the colour-blind can tell apart in the first eight (Wong 2011,
doi:10.1038/nmeth.1618), by rank of the model."""
DASHES = (
    *([1, 0], [7, 2], [2, 2], [7, 2, 2, 2], [12, 3], [4, 3]),
    *([1, 0], [1, 3], [9, 2, 2, 2, 2, 2], [3, 2], [14, 2, 2, 2], [6, 5]),
)
"""Dash patterns by rank, for print."""
WIDTH, HEIGHT = 290, 220
"""Of a chart's axes: three in a row on a laptop, one on a telephone."""
WIDE = 880
"""Of the axes of a chart that fills the page."""
REFERENCE_COLOR = "#8a939c"
"""Of lines to compare with: chance, the prevalence, zero."""
EVENT_COLOR = "#d55e00"
_GRID = "rgba(128, 136, 144, 0.22)"
_FONT = "Arial, 'Liberation Sans', Helvetica, sans-serif"
_DIGITS = 5
_MAX_LEGEND_COLUMNS = 3

_AXIS = alt.AxisConfig(
    labelColor="currentColor",
    titleColor="currentColor",
    labelFontSize=11,
    titleFontSize=11.5,
    titleFontWeight="normal",
    gridColor=_GRID,
    domainColor=REFERENCE_COLOR,
    tickColor=REFERENCE_COLOR,
    labelLimit=170,
    tickCount=5,
)
_LEGEND = alt.LegendConfig(
    labelColor="currentColor",
    labelFontSize=11,
    labelLimit=128,
    symbolSize=110,
    symbolStrokeWidth=2.2,
    symbolType="stroke",
    symbolOpacity=1,
    rowPadding=1,
    columnPadding=8,
)
_HEADER = alt.HeaderConfig(
    labelColor="currentColor", titleColor="currentColor", labelFontSize=11, labelLimit=200
)

Chart = Any
"""An Altair chart: alone, layered, faceted or concatenated."""


def model_color(rank: int) -> str:
    """The colour of the model at that rank, counted from 0."""
    return PALETTE[rank % len(PALETTE)]


def make_data(frame: pl.DataFrame) -> dict[str, Any]:
    """The rows of a frame, rounded to what can be seen; what is not finite becomes null."""
    floats = pl.selectors.float()
    finite = pl.when(floats.is_finite()).then(floats.round_sig_figs(_DIGITS))
    # Altair copies lists, but not tuples, at every step of a chart's making
    return {"values": tuple(frame.with_columns(finite.name.keep()).to_dicts())}


def by_model(
    models: Sequence[str],
    *,
    legend: bool = True,
    orient: str = "bottom",
    listed: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Colour and dash pattern by the column ``model``, with a legend beside the chart.

    Args:
        models: names, the best one first; a name's place gives its colour.
        legend: whether there is one.
        orient: where it is.
        listed: the names in it; None: all.
    """
    scale = alt.Scale(domain=list(models), range=[model_color(i) for i in range(len(models))])
    dashes = [DASHES[i % len(DASHES)] for i in range(len(models))]
    columns = _MAX_LEGEND_COLUMNS if orient == "bottom" else 1
    values = alt.Undefined if listed is None else [m for m in models if m in set(listed)]
    key = alt.Legend(title=None, orient=orient, columns=columns, values=values) if legend else None
    return {
        "color": alt.Color("model:N", scale=scale, legend=key),
        "strokeDash": alt.StrokeDash(
            "model:N", scale=alt.Scale(domain=list(models), range=dashes), legend=key
        ),
    }


def legend_toggle(models: Sequence[str], shown: Sequence[str] | None = None) -> Any:
    """A selection of models; a click on a name in the legend hides it or shows it again.

    Args:
        models: all of them.
        shown: those that are shown at first; None: all.
    """
    return alt.selection_point(
        name="shown",
        fields=["model"],
        bind="legend",
        toggle="true",
        value=[{"model": model} for model in (models if shown is None else shown)],
    )


def set_style(chart: Chart, description: str) -> Chart:
    """The chart with the house's style; ``description`` is for screen readers."""
    styled = chart.configure(
        font=_FONT,
        background="transparent",
        view=alt.ViewConfig(stroke=None),
        axis=_AXIS,
        legend=_LEGEND,
        title=alt.TitleConfig(color="currentColor", fontSize=12.5, anchor="start"),
        header=_HEADER,
        text=alt.MarkConfig(color="currentColor"),
    )
    styled.description = description
    return styled


def no_data(text: str = "not estimable") -> Chart:
    """A chart that says why there is none."""
    mark = alt.Chart({"values": [{}]}).mark_text(fontSize=12).encode(text=alt.value(text))
    return set_style(mark.properties(width=WIDTH, height=40), text)
