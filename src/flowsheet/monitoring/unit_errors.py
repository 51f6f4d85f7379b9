"""Detect values in a wrong unit: would values that do not fit the reference fit in another unit?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import numpy as np
import polars as pl

from flowsheet.cohort.units import LinearConversion
from flowsheet.monitoring.sketch import QuantileSketch
from flowsheet.typing import Floats

MINIMUM_SHARE = 0.02
"""Fewer values than this share in another unit are not reported."""
CENTRAL_RANGE = (0.01, 0.99)
"""Quantiles of the reference between which a value is ordinary."""
MAXIMUM_DISTANCE_RATIO = 0.5
"""After conversion, the distance to the reference must be at most this part of what it was."""


@dataclass(frozen=True)
class UnitConversion:
    """Another unit in which a variable is recorded, and its conversion to the catalogue's."""

    unit: str
    conversion: LinearConversion

    def convert(self, values: Floats) -> Floats:
        """``values`` in the catalogue's unit."""
        return self.conversion.factor * values + self.conversion.offset


@dataclass(frozen=True)
class UnitError:
    """A wrong unit that explains a shift."""

    unit: str
    share: float
    """Of the values that seem to be in it."""
    ks_statistic: float
    """Distance to the reference after these are converted."""


@lru_cache(maxsize=1)
def load_unit_conversions() -> dict[str, tuple[UnitConversion, ...]]:
    """{variable: units in which it may be recorded by mistake}, from ``unit_conversions.csv``.

    >>> fahrenheit = load_unit_conversions()["temp"][0]
    >>> fahrenheit.unit, round(float(fahrenheit.convert(np.array(98.6))), 2)
    ('degF', 37.0)
    """
    schema = {
        "variable": pl.String(),
        "unit": pl.String(),
        "factor": pl.Float64(),
        "offset": pl.Float64(),
    }
    file = files("flowsheet.monitoring") / "unit_conversions.csv"
    text = pl.read_csv(file.read_bytes(), infer_schema=False)
    rows = text.select(pl.col(name).cast(dtype) for name, dtype in schema.items())
    conversions: dict[str, list[UnitConversion]] = defaultdict(list)
    for variable, unit, factor, offset in rows.iter_rows():
        conversions[variable].append(UnitConversion(unit, LinearConversion(factor, offset)))
    return {variable: tuple(units) for variable, units in conversions.items()}


def find_unit_error(variable: str, reference: QuantileSketch, values: Floats) -> UnitError | None:
    """Find a unit in which ``values`` (n,) would fit the reference far better.

    Either all values are in the other unit, or some of them: those outside the reference's central
    98% that the conversion brings inside. So higher values of sicker patients, most of which were
    seen in the reference as well, are not taken for a unit error.

    Returns:
        The unit that leaves the smallest distance; None if no unit explains the shift.
    """
    limit = MAXIMUM_DISTANCE_RATIO * reference.ks_statistic(values)
    plausible = [
        error
        for error in _possible_errors(variable, reference, values)
        if error.share >= MINIMUM_SHARE and error.ks_statistic <= limit
    ]
    return min(plausible, key=lambda error: error.ks_statistic, default=None)


def _possible_errors(
    variable: str, reference: QuantileSketch, values: Floats
) -> Iterator[UnitError]:
    """All values, or only the extreme ones, in each unit that is known for the variable."""
    low, high = np.quantile(reference.values, CENTRAL_RANGE)
    extreme = (values < low) | (values > high)
    for unit in load_unit_conversions().get(variable, ()):
        converted = unit.convert(values)
        yield UnitError(unit.unit, 1.0, reference.ks_statistic(converted))
        corrected = extreme & (converted >= low) & (converted <= high)
        partly_converted = np.where(corrected, converted, values)
        yield UnitError(
            unit.unit, float(corrected.mean()), reference.ks_statistic(partly_converted)
        )
