"""The page of a comparison: what is flagged first, then everything that was looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from markupsafe import Markup

from flowsheet import __version__
from flowsheet.config import MonitoringConfig
from flowsheet.evaluation.report.svg import Plot
from flowsheet.monitoring.findings import Finding, Findings
from flowsheet.monitoring.performance import Figure, Performance
from flowsheet.monitoring.reference import Reference
from flowsheet.monitoring.sketch import Sketch
from flowsheet.monitoring.words import title

_DRAWN = 12
_SECTIONS = {
    "value": ("Values", "Mean of each stay's values."),
    "presence": (
        "How often it is charted",
        "Share of each stay's steps in which a new value arrives.",
    ),
    "given": ("Drugs", "Share of each stay's steps in which the drug is given."),
    "person": ("Patients", "What is known from the first hour; categories as shares."),
    "stay": ("Stays", "The number of steps."),
    "risk": (
        "Risks",
        "Mean of each stay's risks, held against those of subjects that the model had not seen.",
    ),
}


@dataclass(frozen=True)
class Watched:
    """What the page shows."""

    title: str
    reference: Reference
    findings: Findings
    config: MonitoringConfig
    about: Mapping[str, str | int]
    made_at: str
    now: Mapping[tuple[str, str], Sketch]
    """The new distributions, for the drawings."""


def render(watched: Watched) -> str:
    """The whole page as HTML: no script, nothing loaded from anywhere, every name escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": _number,
        "small": _small,
        "name": title,
        "count": "{:,}".format,
    }
    return environment.get_template("report.html").render(
        watched=watched,
        findings=watched.findings,
        reference=watched.reference,
        config=watched.config,
        headline=headline(watched.findings),
        sections=_sections(watched.findings),
        tested=[f for f in watched.findings.findings if f.kind == "performance"],
        figures=_figures(watched.reference.performance, watched.findings.performance),
        drawings=_drawings(watched),
        css=Markup((files("flowsheet.evaluation.report") / "page.css").read_text()),
        version=__version__,
    )


def headline(findings: Findings) -> str:
    """The page in a sentence."""
    flags = findings.flags
    if not flags:
        return f"Quiet: of {findings.tests} properties none is flagged."
    names = list(dict.fromkeys(flag.of for flag in flags))
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return f"{len(flags)} of {findings.tests} properties are flagged: {', '.join(names[:6])}{more}."


def _sections(findings: Findings) -> list[tuple[str, str, list[Finding]]]:
    def lines(kind: str) -> list[Finding]:
        mine = [finding for finding in findings.findings if finding.kind == kind]
        return sorted(mine, key=lambda f: (not f.flagged, f.p is None, -(f.gap or 0.0), f.of))

    return [(head, about, lines(kind)) for kind, (head, about) in _SECTIONS.items() if lines(kind)]


def _figures(then: Performance, now: Performance) -> list[tuple[str, Figure | None, Figure | None]]:
    names = dict.fromkeys(figure.name for figure in (*then.figures, *now.figures))
    held = [{figure.name: figure for figure in each.figures} for each in (then, now)]
    labels = {figure.name: figure.label for figure in (*then.figures, *now.figures)}
    return [(labels[name], held[0].get(name), held[1].get(name)) for name in names]


def _drawings(watched: Watched) -> list[tuple[str, Markup]]:
    """Both distribution functions of what is flagged."""
    then = {(entry.kind, entry.of): entry.sketch for entry in watched.reference.entries}
    shown = [
        (flag.kind, flag.of) for flag in watched.findings.flags if (flag.kind, flag.of) in then
    ]
    return [
        (_caption(*key), _curves(_caption(*key), then[key], watched.now[key]))
        for key in shown[:_DRAWN]
    ]


def _caption(kind: str, of: str) -> str:
    return f"{title(kind, of)}{', charted' if kind == 'presence' else ''}"


def _curves(caption: str, then: Sketch, now: Sketch) -> Markup:
    every = np.concatenate([then.values, now.values])
    low, high = float(every.min()), float(every.max())
    room = 0.03 * (high - low) or 0.5
    plot = Plot.square(
        caption, ("per stay", "share of stays at or below"), (low - room, high + room), (0, 1)
    )
    for sketch, css in ((then, "curve m0 solid"), (now, "curve m1")):
        plot.drawing.path(plot.points(*_steps(sketch, low - room, high + room)), css)
    return plot.drawing.markup()


def _steps(sketch: Sketch, low: float, high: float) -> tuple[list[float], list[float]]:
    """The distribution function as a staircase."""
    at, count = np.unique(sketch.values, return_counts=True)
    up = np.concatenate([[0.0], np.cumsum(count) / count.sum()])
    return [low, *np.repeat(at, 2).tolist(), high], np.repeat(up, 2).tolist()


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _small(value: float | None) -> str:
    if value is None:
        return ""
    if value >= 0.9999:
        return "1"
    return "<0.0001" if value < 1e-4 else f"{value:.4f}"
