"""The shock index."""

from __future__ import annotations

import numpy as np

from flowsheet.models._scores import BedsideScore
from flowsheet.models.base import MODELS
from flowsheet.typing import Floats
from flowsheet.windows.points import Component, Values


def _grade(values: Values) -> Floats:
    hr, sbp = values["hr"], values["sbp"]
    is_known = np.isfinite(hr) & (sbp > 0)
    ratio = np.divide(hr, sbp, out=np.zeros(len(hr)), where=is_known)
    return np.where(is_known, ratio, NORMAL)


NORMAL = 0.6
"""The middle of the normal range of 0.5 to 0.7, where heart rate or pressure is not known."""


@MODELS.register("shock_index")
class ShockIndex(BedsideScore):
    """Heart rate over systolic pressure; raised above 0.7.

    Allgöwer and Burri, Dtsch Med Wochenschr 92:1947 (1967), doi:10.1055/s-0028-1106070; the normal
    range: Rady et al., Ann Emerg Med 24:685 (1994).
    """

    title = "Shock index"
    components = (Component("shock index", ("hr", "sbp"), _grade, needs=(("hr", "sbp"),)),)
    cut_off = 0.7
    least_components = 1
    unit = 0.0
