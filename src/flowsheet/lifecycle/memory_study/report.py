"""The memory study as a section of the page: sentences, a table and drawings, from what the study found."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from markupsafe import Markup

from flowsheet.evaluation.metrics import get_metric
from flowsheet.evaluation.report.charts import css_class
from flowsheet.lifecycle.memory_study import LAW, charts
from flowsheet.lifecycle.memory_study.report_data import MemoryReport, StayReport

__all__ = ["MemoryReport", "Panel", "StayReport", "drawings", "memory_section", "panels"]

_FOLDER = Path(__file__).parent
_ALONE = "svg { max-width: none; width: auto; font-family: 'Helvetica Neue', Arial, 'Liberation Sans', sans-serif; }"
_FIGURES = ("log_loss", "auroc", "auprc", "brier", "share")


@dataclass(frozen=True)
class Panel:
    """A drawing with what it shows and what is seen in it."""

    name: str
    title: str
    caption: str
    drawing: Markup
    legend: tuple[tuple[str, str], ...] = ()
    """(CSS class, words)."""
    broad: bool = False


def memory_section(report: MemoryReport, order: Sequence[str] = ()) -> Markup:
    """The section; ``order`` is that of the page's models, whose colours are kept."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    css = _colours(report, order)
    return Markup(
        environment.get_template("section.html").render(
            css=Markup((_FOLDER / "section.css").read_text()),
            setting=_setting(report),
            claims=list(_claims(report)),
            table=_table(report, css),
            legend=_legend(report, css),
            panels=panels(report, css),
        )
    )


def _colours(report: MemoryReport, order: Sequence[str]) -> dict[str, str]:
    names = [*order, *(model for model in report.models if model not in order)]
    return {name: css_class(i) for i, name in enumerate(names)}


def _legend(report: MemoryReport, css: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    drawn = [*report.about["closer"], *report.gradients["model"].unique(maintain_order=True)]
    return tuple((css[model], model) for model in dict.fromkeys(drawn))


def _setting(report: MemoryReport) -> str:
    about = report.about
    n = len(about["seeds"])
    often = (
        "in one replicate"
        if n == 1
        else f"in {n} replicates, each another ward, split and training"
    )
    trials = "one trial" if about["trials"] == 1 else f"{about['trials']} trials"
    return (
        f"Every model had {trials}, {often} (seeds {', '.join(map(str, about['seeds']))}); "
        f"figures are of the held-out subjects ({', '.join(f'{s:,}' for s in about['subjects'])})."
    )


def _claims(report: MemoryReport) -> Iterator[str]:
    """What the study shows, in sentences."""
    yield from report.orders["sentence"].to_list()
    share = report.figures.filter(metric="share")
    for model in dict.fromkeys([*report.about["closer"][:1], *report.models[:1]]):
        row = share.filter(model=model).row(0, named=True)
        yield (
            f"{model} closes {row['value']:.1%} of the distance from {report.about['baseline']} to the law's own log "
            f"loss ({_replicates(row['values'], '.1%')})."
        )
    far = report.about["far"]
    for (a, b), ratios in report.ratios(far).items():
        if a == "lstm":
            kept = report.gradients.filter(lag=far)
            own = [float(str(kept.filter(model=m)["relative"].mean())) for m in (a, b)]
            yield (
                f"{far} steps back, {a} keeps {own[0]:.1%} of the gradient that it has at lag 0 and {b} {own[1]:.2%}: "
                f"{_geometric(ratios):.3g} times as much ({_replicates(ratios, '.3g')})."
            )
    if report.forgetful:
        yield (
            f"One dose changes nothing after its own step, exactly, in what {_and(report.forgetful)} "
            f"{'says' if len(report.forgetful) == 1 else 'say'}: by construction they see no earlier row."
        )


def _replicates(values: Sequence[float], form: str) -> str:
    return (
        "by replicate " + ", ".join(format(v, form) for v in values)
        if len(values) > 1
        else "one replicate"
    )


def _geometric(values: Sequence[float]) -> float:
    return math.exp(float(np.mean(np.log(values))))


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _table(report: MemoryReport, css: Mapping[str, str]) -> dict[str, Any]:
    """Labels and lines, the law first."""
    labels = [get_metric(name).label for name in _FIGURES[:-1]] + ["Share of the ceiling"]
    distance = dict(
        report.distances.group_by("model", maintain_order=True)
        .agg(pl.col("distance").pow(2).mean().sqrt())
        .iter_rows()
    )
    lines = []
    for model in [LAW, *report.models]:
        rows = {
            row["metric"]: row for row in report.figures.filter(model=model).iter_rows(named=True)
        }
        lines.append(
            {
                "model": model,
                "css": css.get(model, "truth"),
                "cells": [_cell(rows[name], name) for name in _FIGURES],
                "distance": f"{distance[model]:.2f}" if model in distance else "",
                "family": report.about["models"].get(model, "the ceiling"),
            }
        )
    percent = f"{100 * report.about['confidence']:g}%"
    note = (
        f"Mean over replicates. Small figures: {percent} interval over held-out subjects (resampled within "
        f"each replicate, {report.about['resamples']:,} times, then averaged); after r: Student's {percent} interval "
        f"over replicates. Share of the ceiling: (log loss of {report.about['baseline']} - log loss) / (log loss of "
        f"{report.about['baseline']} - the law's). Distance: root mean square of the learned less the true effect of a "
        f"dose, over drugs and lags, in log odds."
    )
    return {"labels": labels, "lines": lines, "note": note}


def _cell(row: Mapping[str, Any], metric: str) -> tuple[str, ...]:
    form = ".1%" if metric == "share" else ".4f" if metric in ("log_loss", "brier") else ".3f"

    def between(low: float, high: float, mark: str = "") -> str:
        return (
            "" if math.isnan(low + high) or low == high else f"{mark}{low:{form}} to {high:{form}}"
        )

    ends = (
        between(row["low"], row["high"]),
        between(row["replicates_low"], row["replicates_high"], "r "),
    )
    return f"{row['value']:{form}}", *ends


def panels(report: MemoryReport, css: Mapping[str, str] | None = None) -> list[Panel]:
    """All drawings."""
    css = css or _colours(report, ())
    return [
        *_effects(report, css),
        *_reach(report, css),
        Panel(
            "ceiling",
            "Share of the ceiling reached",
            f"0 is {report.about['baseline']}, 1 the law itself: nobody can do better. "
            f"{report.models[0]} comes closest.",
            charts.ceiling(report.figures, report.models, css),
        ),
        Panel(
            "matrix",
            "Every model by every drug",
            "Grey: what the law does with a dose, in log odds on a scale for each drug. Coloured: what the model makes "
            "of it, the mean over held-out stays and replicates; without a memory it answers for the first step only.",
            charts.matrix(report.curves, report.learned, report.models, css, report.unit),
            broad=True,
        ),
        *_stay(report),
    ]


def _effects(report: MemoryReport, css: Mapping[str, str]) -> Iterator[Panel]:
    distance = {(m, d): v for m, d, v in report.distances.iter_rows()}
    closer = report.about["closer"]
    for (drug,), truth in report.curves.group_by("drug", maintain_order=True):
        learned = report.learned.filter(pl.col("drug") == drug, pl.col("model").is_in(closer))
        told = ", ".join(f"{m} {distance[m, str(drug)]:.2f}" for m in closer)
        yield Panel(
            f"effect_{drug}",
            str(drug).replace("_", " "),
            f"{_acts(truth)} Root mean square distance from the law: {told}.",
            charts.effect(str(drug), truth, learned, css, report.unit),
            (("truth", "the law"), *((css[m], m) for m in closer)),
        )


def _acts(truth: pl.DataFrame) -> str:
    """When a drug acts, in a sentence."""
    size = truth["effect"].abs()
    if not size.max():
        return "By the law it does nothing."
    peak = int(size.arg_max() or 0)
    half = truth["lag"].filter(size > size[peak] / 2).to_list()
    return (
        f"By the law {truth['effect'][peak]:+.1f} at most, at lag {peak}, and more than half of that at lags "
        f"{half[0]} to {half[-1]}."
    )


def _reach(report: MemoryReport, css: Mapping[str, str]) -> Iterator[Panel]:
    if report.gradients.is_empty():
        return
    far, models = (
        report.about["far"],
        report.gradients["model"].unique(maintain_order=True).to_list(),
    )
    kept = (
        report.gradients.filter(lag=far)
        .group_by("model", maintain_order=True)
        .agg(pl.col("relative").mean())
    )
    told = ", ".join(f"{model} {value:.2%}" for model, value in kept.iter_rows())
    yield Panel(
        "gradients",
        "How far back predictions reach",
        f"Norm of the derivative of a stay's last prediction (log odds) by the inputs so many steps before; thin "
        f"lines are replicates. {far} steps back is left: {told}.",
        charts.reach(report.gradients, far, css, report.unit),
        tuple((css[m], m) for m in models),
    )


def _stay(report: MemoryReport) -> Iterator[Panel]:
    stay = report.stay
    if stay is None:
        return
    means = {row["gate"]: row for row in stay.gates.group_by("gate").mean().iter_rows(named=True)}
    kept, most = means["forget"]["mean"], means["forget"]["high"]
    yield Panel(
        "stay",
        f"Stay {stay.stay_id} and the gates of {stay.model}",
        f"From step to step the forget gates keep {kept:.0%} of the cell on average, and {most:.0%} or more in a tenth "
        f"of the units, of which half is left after {math.log(0.5) / math.log(most):.0f} steps; the input gates let in "
        f"{means['input']['mean']:.0%}. A colour that lasts below is a memory that lasts.",
        charts.stay(stay, report.unit),
        broad=True,
    )


def drawings(report: MemoryReport) -> dict[str, str]:
    """Every drawing as an SVG file that can be looked at by itself, by name."""
    css = (files("flowsheet.evaluation.report") / "page.css").read_text() + (
        _FOLDER / "section.css"
    ).read_text()
    return {panel.name: _standalone(panel, css + _ALONE) for panel in panels(report)}


def _standalone(panel: Panel, css: str) -> str:
    """The drawing with its title, legend, caption and style inside."""
    opening, _, body = panel.drawing.partition(">")
    width, height = (float(v) for v in opening.split('viewBox="')[1].split('"')[0].split()[2:])
    lines = textwrap.wrap(panel.caption, max(60, int(width / 5.6)))
    parts = [
        Markup('<text x="0" y="-18" class="strong">{}</text>').format(panel.title),
        Markup(body.removesuffix("</svg>")),
    ]
    for i, line in enumerate(lines):
        parts.append(
            Markup('<text x="0" y="{:.0f}" class="tick">{}</text>').format(
                height + 22 + 15 * i, line
            )
        )
    for i, (key, words) in enumerate(panel.legend):
        at = Markup(
            '<path d="M{0:.0f} {1}h20" class="curve {2}"/><text x="{3:.0f}" y="{4}" class="tick">{5}</text>'
        )
        parts.append(at.format(width + 14, 20 + 18 * i, key, width + 40, 24 + 18 * i, words))
    whole = width + (150 if panel.legend else 24), height + 62 + 15 * len(lines)
    head = Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="-12 -40 {0:.0f} {1:.0f}" width="{0:.0f}" height="{1:.0f}">'
    )
    ground = Markup('<rect x="-12" y="-40" width="100%" height="100%" fill="#fff"/>')
    style_ = Markup("<style>{}</style>").format(
        Markup(css.replace("&", "&amp;").replace("<", "&lt;"))
    )
    return str(head.format(*whole) + style_ + ground + Markup("").join(parts) + Markup("</svg>"))
