"""What models remember, judged against a ward whose law is known."""

from flowsheet.lifecycle.memory_study.dose_response import dose_response, long_stays, old_doses
from flowsheet.lifecycle.memory_study.oracle_bound import (
    LAW,
    METRIC_NAMES,
    SHARE,
    Judged,
    figures,
    judge,
    orders,
    over_replicates,
)

__all__ = [
    "LAW",
    "METRIC_NAMES",
    "SHARE",
    "Judged",
    "dose_response",
    "figures",
    "judge",
    "long_stays",
    "old_doses",
    "orders",
    "over_replicates",
]
