"""The template environment of all reports: the shared base page, macros, style and filters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from flowsheet import __version__
from flowsheet.charts.export import embed, page_scripts, script_sources

if TYPE_CHECKING:
    from jinja2 import Environment

FOLDER = Path(__file__).parent
"""Of the templates that every report may extend or import."""
PAGE_CSS = FOLDER / "page.css"


def make_environment(*folders: Path) -> Environment:
    """Templates of the folders and of this one; every name is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([*folders, FOLDER]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "page_css": Markup(PAGE_CSS.read_text(encoding="utf-8")),
        "page_scripts": page_scripts,
        "script_sources": script_sources,
        "version": __version__,
    }
    environment.filters |= {
        "count": format_count,
        "seconds": format_duration,
        "fact": format_fact,
        "name": break_name,
        "draw": embed,
    }
    return environment


def format_count(number: int) -> str:
    """With a separator of thousands."""
    return f"{number:,}"


def break_name(name: str) -> Markup:
    """A model's name that a narrow column may break after each underscore."""
    return Markup("_<wbr>").join(name.split("_"))


def format_duration(seconds: float) -> str:
    """In hours, minutes and seconds.

    >>> format_duration(75)
    '1 min 15 s'
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


def format_fact(value: Any) -> str:
    """A parameter or fact as text: floats with six digits."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
