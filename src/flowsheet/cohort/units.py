"""Conversions to the catalogue's units, by the name that the item maps write in ``convert``."""

from __future__ import annotations

from dataclasses import dataclass

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
