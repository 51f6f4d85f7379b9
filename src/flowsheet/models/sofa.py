"""The SOFA score of the last known values."""

from __future__ import annotations

from flowsheet.models._scores import BedsideScore
from flowsheet.models.base import MODELS
from flowsheet.windows.sofa_points import SOFA_ORGANS


@MODELS.register("sofa")
class SOFA(BedsideScore):
    """Points for six organs by the last known values; organ dysfunction from 2 on.

    Vincent et al., Intensive Care Med 22:707 (1996), doi:10.1007/BF01709751. It takes the last
    known value, and not the worst of the last 24 hours as the definition of Sepsis-3 does: what a
    clinician reads at the bedside. The kidneys are graded by creatinine, urine is not.
    """

    title = "SOFA"
    components = SOFA_ORGANS
    cut_off = 2
    least_components = 4
