"""The criteria of the systemic inflammatory response syndrome."""

from __future__ import annotations

import numpy as np

from flowsheet.models._scores import BedsideScore
from flowsheet.models.base import MODELS
from flowsheet.typing import Floats
from flowsheet.windows.points import Component, Values, points_up_to


def _grade_temperature(values: Values) -> Floats:
    return ((values["temp"] > 38) | (values["temp"] < 36)).astype(np.float64)


def _grade_breathing(values: Values) -> Floats:
    return ((values["resp"] > 20) | (values["pco2"] < 32)).astype(np.float64)


def _grade_white_cells(values: Values) -> Floats:
    wbc = values["wbc"]
    return ((wbc > 12) | (wbc < 4) | (values["bnd"] > 10)).astype(np.float64)


@MODELS.register("sirs")
class SIRS(BedsideScore):
    """A point for each of the four criteria; positive from 2 on.

    Bone et al., Chest 101:1644 (1992), doi:10.1378/chest.101.6.1644.
    """

    title = "SIRS"
    components = (
        Component("temperature", ("temp",), _grade_temperature),
        Component("heart rate", ("hr",), points_up_to("hr", (90,), (0, 1))),
        Component("respiration", ("resp", "pco2"), _grade_breathing),
        Component("white cells", ("wbc", "bnd"), _grade_white_cells),
    )
    cut_off = 2
    least_components = 2
