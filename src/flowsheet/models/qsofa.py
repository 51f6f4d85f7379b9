"""The quick SOFA score."""

from __future__ import annotations

from flowsheet.models._scores import BedsideScore
from flowsheet.models.base import MODELS
from flowsheet.windows.points import Component, count_at_least, points_up_to


@MODELS.register("qsofa")
class QSOFA(BedsideScore):
    """A point each for fast breathing, altered mentation and low pressure; positive from 2 on.

    Seymour et al., JAMA 315:762 (2016), doi:10.1001/jama.2016.0288.
    """

    title = "qSOFA"
    components = (
        Component("respiratory rate", ("resp",), count_at_least("resp", (22,))),
        Component("mentation", ("gcs",), points_up_to("gcs", (14,), (1, 0))),
        Component("systolic pressure", ("sbp",), points_up_to("sbp", (100,), (1, 0))),
    )
    cut_off = 2
    least_components = 2
