"""Categories that are texts, in one spelling."""

from __future__ import annotations

import polars as pl


def spell_text(text: pl.Expr) -> pl.Expr:
    """A category in one spelling: lower case, ``_`` for blanks, hyphens and slashes.

    >>> texts = pl.DataFrame({"text": ["Sodium chloride ", "DNR/DNI", None]})
    >>> texts.select(spell_text(pl.col("text")))["text"].to_list()
    ['sodium_chloride', 'dnr_dni', None]
    """
    return text.str.strip_chars().str.to_lowercase().str.replace_all(r"[\s/-]+", "_")
