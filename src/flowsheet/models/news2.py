"""The National Early Warning Score 2."""

from __future__ import annotations

import numpy as np

from flowsheet.models._scores import BedsideScore
from flowsheet.models.base import MODELS
from flowsheet.typing import Floats
from flowsheet.windows.points import Component, Values, points_up_to

_ROOM_AIR = 21.0
"""Inspired oxygen in percent."""


def _grade_oxygen(values: Values) -> Floats:
    """Two points for any supplemental oxygen."""
    gets_oxygen = (
        (values["fio2"] > _ROOM_AIR)
        | (values["o2_flow"] > 0)
        | (values["o2_device"] > 0)
        | (values["vent"] >= 0.5)
    )
    return 2.0 * gets_oxygen.astype(np.float64)


@MODELS.register("news2")
class NEWS2(BedsideScore):
    """Points for seven bedside observations; an urgent response from 5 on.

    Royal College of Physicians, National Early Warning Score (NEWS) 2 (2017). Oxygen saturation is
    graded on scale 1; a Glasgow coma scale below 15 counts as not alert.
    """

    title = "NEWS2"
    components = (
        Component(
            "respiratory rate", ("resp",), points_up_to("resp", (8, 11, 20, 24), (3, 1, 0, 2, 3))
        ),
        Component("saturation", ("o2sat",), points_up_to("o2sat", (91, 93, 95), (3, 2, 1, 0))),
        Component("oxygen", ("fio2", "o2_flow", "o2_device", "vent"), _grade_oxygen),
        Component(
            "systolic pressure",
            ("sbp",),
            points_up_to("sbp", (90, 100, 110, 219), (3, 2, 1, 0, 3)),
        ),
        Component("pulse", ("hr",), points_up_to("hr", (40, 50, 90, 110, 130), (3, 1, 0, 1, 2, 3))),
        Component("consciousness", ("gcs",), points_up_to("gcs", (14,), (3, 0))),
        Component(
            "temperature", ("temp",), points_up_to("temp", (35, 36, 38, 39), (3, 1, 0, 1, 2))
        ),
    )
    cut_off = 5
    least_components = 4
