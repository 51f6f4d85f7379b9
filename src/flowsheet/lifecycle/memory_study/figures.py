"""The figures of a memory study: drawings with titles and captions, for the page or as files."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from markupsafe import Markup

from flowsheet.evaluation.report.charts import css_class
from flowsheet.evaluation.report.templates import PAGE_CSS
from flowsheet.lifecycle.memory_study import charts
from flowsheet.lifecycle.memory_study.report_data import MemoryReport
from flowsheet.lifecycle.memory_study.stay_chart import draw_stay
from flowsheet.lifecycle.memory_study.summaries import describe_curve, describe_gates

SECTION_CSS = Path(__file__).parent / "section.css"
_STANDALONE_CSS = (
    "svg { max-width: none; width: auto; "
    "font-family: 'Helvetica Neue', Arial, 'Liberation Sans', sans-serif; }"
)


@dataclass(frozen=True)
class Figure:
    """A drawing with its title and caption."""

    name: str
    title: str
    caption: str
    drawing: Markup
    legend: tuple[tuple[str, str], ...] = ()
    """(CSS class, label)."""
    is_wide: bool = False


def assign_css(report: MemoryReport, models: Sequence[str]) -> dict[str, str]:
    """The CSS class of every model; ``models`` of the page come first, in their order."""
    names = [*models, *(model for model in report.models if model not in models)]
    return {name: css_class(rank) for rank, name in enumerate(names)}


def make_figures(report: MemoryReport, css: Mapping[str, str] | None = None) -> list[Figure]:
    """All figures; ``css`` is the class of each model."""
    css = css or assign_css(report, ())
    return [
        *_effect_figures(report, css),
        *_gradient_figures(report, css),
        Figure(
            "oracle_bound",
            "Share of the oracle bound",
            f"0 is {report.about['baseline']}, 1 the oracle, the lowest expected log loss of any "
            f"model. {report.models[0]} is closest to it.",
            charts.draw_oracle_shares(report.scores, report.models, css),
        ),
        Figure(
            "effect_matrix",
            "Every model by every drug",
            "Grey: the true effect of a dose in log odds, with a scale for each drug. Coloured: "
            "the learned effect, the mean over held-out stays and replicates; models without a "
            "memory respond in the first step only.",
            charts.draw_effect_matrix(
                report.effects, report.mean_responses, report.models, css, report.step_unit
            ),
            is_wide=True,
        ),
        *_stay_figures(report),
    ]


def _effect_figures(report: MemoryReport, css: Mapping[str, str]) -> Iterator[Figure]:
    distance = {(model, drug): value for model, drug, value in report.distances.iter_rows()}
    models = report.about["highlighted_models"]
    for (drug,), truth in report.effects.group_by("drug", maintain_order=True):
        name = str(drug)
        learned = report.mean_responses.filter(pl.col("model").is_in(models), drug=name)
        distances = ", ".join(f"{model} {distance[model, name]:.2f}" for model in models)
        yield Figure(
            f"effect_{name}",
            name.replace("_", " "),
            f"{describe_curve(truth)} Root mean square error of the learned effect: {distances}.",
            charts.draw_effect(name, truth, learned, css, report.step_unit),
            (("truth", "true effect"), *((css[model], model) for model in models)),
        )


def _gradient_figures(report: MemoryReport, css: Mapping[str, str]) -> Iterator[Figure]:
    if report.gradients.is_empty():
        return
    lag = report.about["gradient_lag"]
    models = report.gradients["model"].unique(maintain_order=True).to_list()
    at_lag = report.gradients.filter(lag=lag).group_by("model", maintain_order=True)
    means = at_lag.agg(pl.col("relative").mean())
    remaining = ", ".join(f"{model} {value:.2%}" for model, value in means.iter_rows())
    yield Figure(
        "gradients",
        "Input gradients by lag",
        "Norm of the gradient of a stay's last prediction (log odds) by the inputs of earlier "
        f"steps, relative to lag 0; thin lines are replicates. At lag {lag}: {remaining}.",
        charts.draw_gradients(report.gradients, lag, css, report.step_unit),
        tuple((css[model], model) for model in models),
    )


def _stay_figures(report: MemoryReport) -> Iterator[Figure]:
    stay = report.example_stay
    if stay is not None:
        yield Figure(
            "example_stay",
            f"Stay {stay.stay_id} and the gates of {stay.model}",
            describe_gates(stay),
            draw_stay(stay, report.step_unit),
            is_wide=True,
        )


def export_figures(report: MemoryReport) -> dict[str, str]:
    """Every figure as the text of a self-contained SVG file, by name."""
    css = (
        PAGE_CSS.read_text(encoding="utf-8")
        + SECTION_CSS.read_text(encoding="utf-8")
        + _STANDALONE_CSS
    )
    return {figure.name: _make_standalone(figure, css) for figure in make_figures(report)}


def _make_standalone(figure: Figure, css: str) -> str:
    """The drawing with its title, legend, caption and style inside."""
    opening, _, body = figure.drawing.partition(">")
    view_box = opening.split('viewBox="')[1].split('"')[0]
    width, height = (float(number) for number in view_box.split()[2:])
    caption = textwrap.wrap(figure.caption, max(60, int(width / 5.6)))
    marks = [
        Markup('<text x="0" y="-18" class="strong">{}</text>').format(figure.title),
        Markup(body.removesuffix("</svg>")),
        *_caption_marks(caption, height),
        *_legend_marks(figure.legend, width),
    ]
    full_width = width + (150 if figure.legend else 24)
    full_height = height + 62 + 15 * len(caption)
    head = Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="-12 -40 {0:.0f} {1:.0f}" '
        'width="{0:.0f}" height="{1:.0f}">'
    ).format(full_width, full_height)
    escaped_css = Markup(css.replace("&", "&amp;").replace("<", "&lt;"))
    style = Markup("<style>{}</style>").format(escaped_css)
    background = Markup('<rect x="-12" y="-40" width="100%" height="100%" fill="#fff"/>')
    return str(head + style + background + Markup("").join(marks) + Markup("</svg>"))


def _caption_marks(lines: Sequence[str], height: float) -> Iterator[Markup]:
    template = Markup('<text x="0" y="{:.0f}" class="tick">{}</text>')
    for i, line in enumerate(lines):
        yield template.format(height + 22 + 15 * i, line)


def _legend_marks(legend: Sequence[tuple[str, str]], width: float) -> Iterator[Markup]:
    template = Markup(
        '<path d="M{:.0f} {}h20" class="curve {}"/><text x="{:.0f}" y="{}" class="tick">{}</text>'
    )
    for i, (css, label) in enumerate(legend):
        yield template.format(width + 14, 20 + 18 * i, css, width + 40, 24 + 18 * i, label)
