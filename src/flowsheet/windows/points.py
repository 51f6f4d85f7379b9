"""Points of bedside scores, by the last known values.

What is not known has no points.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from flowsheet.typing import AnyArray, Floats

Values = Mapping[str, Floats]
"""By variable, the last known value of each row (n,), NaN where there is none."""
Grade = Callable[[Values], Floats]


@dataclass(frozen=True)
class Component:
    """A part of a score."""

    name: str
    variables: tuple[str, ...]
    """What it is graded by; the first ones are needed, see ``needs``."""
    grade: Grade
    """Points (n,), 0 where nothing is known. It gets every variable, NaN where it is absent."""
    needs: tuple[tuple[str, ...], ...] = ()
    """It can be graded with all variables of one of these groups; empty: with any variable."""

    def is_gradable(self, available: set[str]) -> bool:
        """Whether these variables suffice."""
        groups = self.needs or tuple((variable,) for variable in self.variables)
        return any(available.issuperset(group) for group in groups)


def add_up(conditions: Sequence[AnyArray]) -> Floats:
    """How many of the conditions hold, for each row (n,)."""
    return np.asarray(np.sum(conditions, axis=0, dtype=np.float64))


def points_up_to(variable: str, bounds: Sequence[float], points: Sequence[int]) -> Grade:
    """Points of a value at most ``bounds[i]`` (the first such i); the last ones above all bounds.

    >>> grade = points_up_to("gcs", (14,), (3, 0))
    >>> grade({"gcs": np.array([14.0, 15.0, np.nan])}).tolist()
    [3.0, 0.0, 0.0]
    """

    def grade(values: Values) -> Floats:
        value = values[variable]
        position = np.searchsorted(np.array(bounds), value)
        graded = np.array(points, np.float64)[np.minimum(position, len(bounds))]
        return np.where(np.isnan(value), 0.0, graded)

    return grade


def count_at_least(variable: str, bounds: Sequence[float]) -> Grade:
    """One point for each of the ascending bounds that the value reaches."""

    def grade(values: Values) -> Floats:
        return add_up([values[variable] >= bound for bound in bounds])

    return grade


def count_below(variable: str, bounds: Sequence[float]) -> Grade:
    """One point for each of the bounds that the value is below."""

    def grade(values: Values) -> Floats:
        return add_up([values[variable] < bound for bound in bounds])

    return grade
