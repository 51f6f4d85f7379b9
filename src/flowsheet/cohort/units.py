"""Units: one spelling for comparisons, and conversions to the catalogue's.

A conversion has the name that the item maps write in ``convert``.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

import polars as pl


@dataclass(frozen=True)
class LinearConversion:
    """A charted value is ``value * factor + offset`` in the catalogue's unit."""

    factor: float
    offset: float = 0.0


IDENTITY = LinearConversion(1.0)

LINEAR_CONVERSIONS = {
    "fahrenheit": LinearConversion(5 / 9, -160 / 9),  # to degC
    "inches": LinearConversion(2.54),  # to cm
    "pounds": LinearConversion(0.45359237),  # to kg
    "ounces": LinearConversion(0.028349523125),  # to kg
    "negate": LinearConversion(-1.0),
    "thousandth": LinearConversion(0.001),  # ng/L to ng/mL
    "calcium": LinearConversion(1 / 4.0078),  # mg/dL to mmol/L; the molar mass is 40.078 g
}

FRACTION_OR_PERCENT = "fraction_or_percent"
"""Charted as a fraction by some and in percent by others."""


def as_percent(value: pl.Expr) -> pl.Expr:
    """Values up to 1 are taken for fractions, the others for percentages.

    >>> fio2 = pl.DataFrame({"fio2": [0.4, 1.0, 40.0]})
    >>> fio2.select(as_percent(pl.col("fio2")))["fio2"].to_list()
    [40.0, 100.0, 40.0]
    """
    return pl.when(value <= 1).then(value * 100).otherwise(value)


def linear(value: pl.Expr, conversion: LinearConversion) -> pl.Expr:
    """Values in the catalogue's unit.

    >>> celsius = linear(pl.col("temp"), LINEAR_CONVERSIONS["fahrenheit"])
    >>> pl.DataFrame({"temp": [98.6]}).select(celsius.round(6)).item()
    37.0
    """
    return value * conversion.factor + conversion.offset


_SUPERSCRIPT = re.compile("[\u207b\u2070\u00b9\u00b2\u00b3\u2074-\u2079]+")
_SIGNS = str.maketrans(
    {
        "\u00ba": "\u00b0",  # an ordinal, and a ring, for a degree
        "\u02da": "\u00b0",
        "\u00b5": "u",  # micro, in Unicode's two spellings
        "\u03bc": "u",
        "\u2215": "/",
        "\u2044": "/",
        "\u2212": "-",
        "\u00d7": "x",
        "\u00b7": "*",
        "\u22c5": "*",
    }
)
_UNSEEN = re.compile(r"[\s.\u200b\u2060\ufeff]")
_POWER_OF_TEN = re.compile(r"^x?10(?:\^|\*\*?|e)(?=\d)")
_MICROGRAM = re.compile(r"(^|[/*])ug")


@lru_cache(maxsize=4096)
def fold_unit(unit: str) -> str:
    """A unit in one spelling of signs: lower case, without blanks and points.

    >>> fold_unit("\N{MICRO SIGN}g/kg/min"), fold_unit("\N{GREEK SMALL LETTER MU}g/kg/min")
    ('mcg/kg/min', 'mcg/kg/min')
    >>> fold_unit("x10\N{SUPERSCRIPT NINE}/L"), fold_unit("mm Hg")
    ('10^9/l', 'mmhg')
    """
    text = _SUPERSCRIPT.sub(lambda digits: f"^{digits[0]}", unit).translate(_SIGNS)
    text = unicodedata.normalize("NFKC", text).lower().translate(_SIGNS)
    text = _POWER_OF_TEN.sub("10^", _UNSEEN.sub("", text))
    return _MICROGRAM.sub(r"\1mcg", text)


def fold_units(unit: pl.Expr) -> pl.Expr:
    """A column of units in one spelling of signs; see ``fold_unit``."""
    return unit.cast(pl.String).map_batches(_fold_column, return_dtype=pl.String())


def _fold_column(units: pl.Series) -> pl.Series:
    distinct = units.drop_nulls().unique()
    folded = pl.Series([fold_unit(unit) for unit in distinct], dtype=pl.String())
    return units.replace_strict(distinct, folded, default=None, return_dtype=pl.String())
