"""The Modified Early Warning Score."""

from __future__ import annotations

import numpy as np

from flowsheet.models._scores import BedsideScore
from flowsheet.models.base import MODELS
from flowsheet.typing import Floats
from flowsheet.windows.points import Component, Values, add_up, points_up_to


def _grade_pulse(values: Values) -> Floats:
    hr = values["hr"]
    faster = add_up([hr > bound for bound in (100, 110, 129)])
    slower = np.where(hr < 40, 2.0, np.where(hr <= 50, 1.0, 0.0))
    return faster + slower


def _grade_temperature(values: Values) -> Floats:
    return 2.0 * ((values["temp"] < 35) | (values["temp"] >= 38.5)).astype(np.float64)


def _grade_breathing(values: Values) -> Floats:
    resp = values["resp"]
    faster = add_up([resp >= bound for bound in (15, 21, 30)])
    return np.where(resp < 9, 2.0, faster)


def _grade_pressure(values: Values) -> Floats:
    sbp = values["sbp"]
    low = add_up([sbp <= bound for bound in (100, 80, 70)])
    return np.where(sbp >= 200, 2.0, low)


@MODELS.register("mews")
class MEWS(BedsideScore):
    """Points for five bedside observations; critical from 5 on.

    Subbe et al., QJM 94:521 (2001), doi:10.1093/qjmed/94.10.521. AVPU follows from the Glasgow coma
    scale by the medians of Kelly et al., Ann Emerg Med 44:108 (2004): 15 alert, 10 to 14 voice, 7
    to 9 pain, below 7 unresponsive.
    """

    title = "MEWS"
    components = (
        Component("systolic pressure", ("sbp",), _grade_pressure),
        Component("pulse", ("hr",), _grade_pulse),
        Component("respiratory rate", ("resp",), _grade_breathing),
        Component("temperature", ("temp",), _grade_temperature),
        Component("consciousness", ("gcs",), points_up_to("gcs", (6, 9, 14), (3, 2, 1, 0))),
    )
    cut_off = 5
    least_components = 3
