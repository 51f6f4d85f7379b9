"""What models remember, judged against a ward whose law is known."""

from flowsheet.evaluation.memory.ceiling import (
    LAW,
    METRIC_NAMES,
    SHARE,
    Judged,
    figures,
    judge,
    orders,
    over_replicates,
)
from flowsheet.evaluation.memory.response import dose_response, long_stays, old_doses

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
