"""The figures of a memory study: charts with titles and captions, for the page or as files."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import altair as alt
import polars as pl

from flowsheet import charts
from flowsheet.charts.style import Chart, model_color
from flowsheet.cohort.responses.base import find_words
from flowsheet.cohort.sepsis3 import SEPSIS
from flowsheet.lifecycle.memory_study.oracle_bound import SHARE
from flowsheet.lifecycle.memory_study.report_data import MemoryReport
from flowsheet.lifecycle.memory_study.summaries import describe_curve, describe_gates

_CAPTION_WIDTH = 60
_WIDE_CAPTION_WIDTH = 150


@dataclass(frozen=True)
class Figure:
    """A chart with its title and caption."""

    name: str
    title: str
    caption: str
    chart: Chart
    is_wide: bool = False


def order_models(report: MemoryReport, models: Sequence[str] = ()) -> list[str]:
    """Every model of the study; ``models`` of the page come first, which decides their colours."""
    return [*models, *(model for model in report.models if model not in models)]


def make_figures(report: MemoryReport, models: Sequence[str] = ()) -> list[Figure]:
    """All figures; ``models`` are those of the page in their order."""
    ordered = order_models(report, models)
    return [
        *_effect_figures(report, ordered),
        *_gradient_figures(report, ordered),
        Figure(
            "oracle_bound",
            "Share of the oracle bound",
            f"0 is {report.about['baseline']}, 1 the oracle, the lowest expected log loss of any "
            f"model. {report.models[0]} is closest to it.",
            _chart_oracle_shares(report, ordered),
        ),
        Figure(
            "effect_matrix",
            "Every model by every drug",
            "Grey: the true effect of a dose in log odds, with a scale for each drug. Coloured: "
            "the learned effect, the mean over held-out stays and replicates; models without a "
            "memory respond in the first step only.",
            charts.dose_response_grid(
                report.effects,
                report.mean_responses.filter(pl.col("model").is_in(report.models)),
                models=ordered,
                unit=report.step_unit,
            ),
            is_wide=True,
        ),
        *_stay_figures(report),
    ]


def _effect_figures(report: MemoryReport, models: list[str]) -> Iterator[Figure]:
    distance = {(model, drug): value for model, drug, value in report.distances.iter_rows()}
    highlighted = report.about["highlighted_models"]
    for (drug,), truth in report.effects.group_by("drug", maintain_order=True):
        name = str(drug)
        learned = report.mean_responses.filter(pl.col("model").is_in(highlighted), drug=name)
        distances = ", ".join(f"{model} {distance[model, name]:.2f}" for model in highlighted)
        yield Figure(
            f"effect_{name}",
            name.replace("_", " "),
            f"{describe_curve(truth)} Root mean square error of the learned effect: {distances}.",
            charts.dose_response(truth, learned, models=models, unit=report.step_unit, label=name),
        )


def _gradient_figures(report: MemoryReport, models: list[str]) -> Iterator[Figure]:
    if report.gradients.is_empty():
        return
    lag = report.about["gradient_lag"]
    at_lag = report.gradients.filter(lag=lag).group_by("model", maintain_order=True)
    means = at_lag.agg(pl.col("relative").mean())
    remaining = ", ".join(f"{model} {value:.2%}" for model, value in means.iter_rows())
    yield Figure(
        "gradients",
        "Input gradients by lag",
        "Norm of the gradient of a stay's last prediction (log odds) by the inputs of earlier "
        f"steps, relative to lag 0; thin lines are replicates. At lag {lag}: {remaining}.",
        charts.gradients(report.gradients, models=models, unit=report.step_unit, marked_lag=lag),
    )


def _chart_oracle_shares(report: MemoryReport, models: list[str]) -> Chart:
    """Each model's share of the oracle bound, with the interval over subjects."""
    shares = report.scores.filter(pl.col("model").is_in(report.models), metric=SHARE)
    estimates = shares.select("value", "low", "high", name="model")
    colors = [model_color(models.index(model)) for model in estimates["name"]]
    return charts.forest(estimates, "Share of the oracle bound", colors=colors)


def _stay_figures(report: MemoryReport) -> Iterator[Figure]:
    stay = report.example_stay
    if stay is not None:
        yield Figure(
            "example_stay",
            f"Stay {stay.stay_id} and the gates of {stay.model}",
            describe_gates(stay),
            charts.gate_timeline(
                stay.predictions,
                stay.doses,
                stay.measurements,
                stay.gates,
                stay.cell,
                model=stay.model,
                unit=report.step_unit.removesuffix("s"),
                state=find_words(report.about.get("response", SEPSIS)).state,
            ),
            is_wide=True,
        )


def export_figures(report: MemoryReport) -> dict[str, str]:
    """Every figure as the text of a self-contained SVG file with its caption, by name."""
    return {figure.name: _make_standalone(figure) for figure in make_figures(report.with_titles())}


def _make_standalone(figure: Figure) -> str:
    width = _WIDE_CAPTION_WIDTH if figure.is_wide else _CAPTION_WIDTH
    title = alt.Title(figure.title, subtitle=textwrap.wrap(figure.caption, width), offset=14)
    return charts.to_svg(figure.chart.properties(title=title, background="white"))
