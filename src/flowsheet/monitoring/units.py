"""Whether values that do not fit would fit in another unit."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import numpy as np
import polars as pl

from flowsheet.monitoring.sketch import Sketch
from flowsheet.typing import Floats

SHARE = 0.02
"""Fewer stays than this share make no mistake of units."""
TAILS = (0.01, 0.99)
CLOSER = 0.5
"""Read in the other unit, the distance must shrink to this part of itself."""


@dataclass(frozen=True)
class Conversion:
    """Values in ``unit`` become right as ``factor * value + offset``."""

    unit: str
    factor: float
    offset: float

    def __call__(self, values: Floats) -> Floats:
        """The values as they were meant."""
        return self.factor * values + self.offset


@dataclass(frozen=True)
class Mistake:
    """A unit that explains a shift."""

    unit: str
    share: float
    """Of the values that seem to be in it."""
    distance: float
    """What is left of the shift then."""


@lru_cache(maxsize=1)
def conversions() -> dict[str, tuple[Conversion, ...]]:
    """The units that records are wrongly kept in, by what is measured.

    >>> conversions()["temp"][0].unit, round(float(conversions()["temp"][0](np.array(98.6))), 2)
    ('degF', 37.0)
    """
    kinds = {"of": pl.String(), "unit": pl.String(), "factor": pl.Float64(), "offset": pl.Float64()}
    rows = pl.read_csv(
        (files("flowsheet.monitoring") / "unit_mistakes.csv").read_bytes(), infer_schema=False
    )
    known: dict[str, tuple[Conversion, ...]] = {}
    for row in rows.select(pl.col(name).cast(kind) for name, kind in kinds.items()).iter_rows(
        named=True
    ):
        known[row["of"]] = (
            *known.get(row["of"], ()),
            Conversion(row["unit"], row["factor"], row["offset"]),
        )
    return known


def mistake(of: str, reference: Sketch, values: Floats) -> Mistake | None:
    """The unit in which ``values`` (n,), all or some, would fit the reference far better; None
    where there is none.

    Some: those outside the reference's middle 98% that the other unit brings inside. So sicker
    patients, most of whom have values that were seen before, are not taken for a mistake.
    """
    before = reference.distance(values)
    low, high = np.quantile(reference.values, TAILS)
    found = []
    for conversion in conversions().get(of, ()):
        meant = conversion(values)
        strange = ((values < low) | (values > high)) & (meant >= low) & (meant <= high)
        found.append(Mistake(conversion.unit, 1.0, reference.distance(meant)))
        found.append(
            Mistake(
                conversion.unit,
                float(strange.mean()),
                reference.distance(np.where(strange, meant, values)),
            )
        )
    likely = [each for each in found if each.share >= SHARE and each.distance <= CLOSER * before]
    return min(likely, key=lambda each: each.distance, default=None)
