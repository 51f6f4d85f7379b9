"""How the API's objects look in a notebook."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import polars as pl


def describe(title: str, facts: Mapping[str, object], frame: pl.DataFrame | None = None) -> str:
    """A title, a line for each fact, and a frame, as HTML.

    Examples:
        >>> describe("Extract", {"stays": 3})
        '<b>Extract</b><br>stays: 3'
    """
    lines = [f"<b>{escape(title)}</b>"]
    lines += [f"{escape(name)}: {escape(str(value))}" for name, value in facts.items()]
    table = "" if frame is None else frame._repr_html_()
    return "<br>".join(lines) + table
