"""The page: what each section shows, laid out by the templates beside this file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markupsafe import Markup

from flowsheet import __version__
from flowsheet.evaluation.leaderboard import describe_intervals
from flowsheet.evaluation.report import charts
from flowsheet.evaluation.report.cohort import cohort
from flowsheet.evaluation.report.data import ReportData
from flowsheet.evaluation.report.differences import matrix
from flowsheet.evaluation.report.figures import curve_sets, lead_times
from flowsheet.evaluation.report.models import models
from flowsheet.evaluation.report.tables import boards, subgroups


def render(report: ReportData) -> str:
    """The whole page as HTML: no script, nothing loaded from anywhere, every name escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folder = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"count": count, "seconds": duration, "plain": plain, "name": breakable}
    evidence = report.evidence
    return environment.get_template("page.html").render(
        report=report,
        evidence=evidence,
        css=Markup((folder / "page.css").read_text()),
        boards=boards(evidence),
        legend=[(charts.style(i), name) for i, name in enumerate(evidence.models)],
        describe_intervals=describe_intervals(evidence),
        matrix=matrix(evidence),
        curve_sets=curve_sets(evidence),
        lead=lead_times(evidence),
        subgroups=subgroups(evidence),
        cohort=cohort(report.cohort) if report.cohort else None,
        models=models(report),
        version=__version__,
    )


def count(number: int) -> str:
    """With thousands separated."""
    return f"{number:,}"


def breakable(name: str) -> Markup:
    """A model's name, which a narrow column may break after each underscore."""
    return Markup("_<wbr>").join(name.split("_"))


def duration(seconds: float) -> str:
    """As people say it.

    >>> duration(75)
    '1 min 15 s'
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


def plain(value: Any) -> str:
    """A parameter or fact as text: floats to six figures."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
