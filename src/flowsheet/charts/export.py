"""A chart as a file or as a part of a page."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from functools import cache, lru_cache
from pathlib import Path

from markupsafe import Markup

from flowsheet.charts.style import Chart

_SCRIPT_FILE = Path(__file__).parent / "page.js"
_EXPORTS = "window.vegaEmbed = vegaEmbed;"
_VIEW_PATTERN = re.compile(r'"view_\d+"')
_FONT_PATTERN = re.compile(r' font-family="[^"]*"')


def to_svg(chart: Chart) -> str:
    """The chart as the text of an SVG file."""
    return _render(_to_json(chart))


@lru_cache(maxsize=512)
def _render(spec: str) -> str:
    import vl_convert

    return str(vl_convert.vegalite_to_svg(spec))


def _to_json(chart: Chart) -> str:
    """The chart's specification; equal charts have equal texts."""
    spec = chart.to_dict(validate=False)
    text = json.dumps(spec, separators=(",", ":"), ensure_ascii=False)
    # Altair numbers the views of a process
    for i, name in enumerate(dict.fromkeys(_VIEW_PATTERN.findall(text))):
        text = text.replace(name, f'"view-{i}"')
    return text


def embed(chart: Chart) -> Markup:
    """The chart as a part of a page: a drawing, and what a script makes it interactive with.

    Without scripts and on paper the drawing stays as it is.
    """
    spec = _to_json(chart)
    svg = _FONT_PATTERN.sub("", _render(spec))
    # no text of a chart can end its element
    data = spec.replace("<", "\\u003c")
    return Markup(
        '<div class="chart">{}</div><script type="application/json" class="chart-data">{}</script>'
    ).format(Markup(svg), Markup(data))


@cache
def page_scripts() -> tuple[Markup, ...]:
    """The scripts of a page with charts: Vega with its parts, and ours."""
    import vl_convert

    library = vl_convert.javascript_bundle(_EXPORTS)
    # "</script" ends the element, and "<!--" changes how its text is read
    library = library.replace("</script", "<\\/script").replace("<!--", "<\\!--")
    return Markup(library), Markup(_SCRIPT_FILE.read_text(encoding="utf-8"))


@cache
def script_sources() -> str:
    """The sources of a Content-Security-Policy that allow :func:`page_scripts` and no other."""
    digests = [hashlib.sha256(script.encode()).digest() for script in page_scripts()]
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
