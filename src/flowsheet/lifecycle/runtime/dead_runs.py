"""When a run that has no lock counts as dead."""

from __future__ import annotations

import math
import os

from flowsheet.errors import UsageError

DEAD_RUN_MINUTES = "FLOWSHEET_DEAD_RUN_MINUTES"
_DEFAULT_DEAD_RUN_MINUTES = 15.0


def dead_run_minutes() -> float:
    """How long a run without a lock may give no sign of life: ``$FLOWSHEET_DEAD_RUN_MINUTES``.

    Raises:
        UsageError: the variable is no positive number.
    """
    text = os.environ.get(DEAD_RUN_MINUTES) or str(_DEFAULT_DEAD_RUN_MINUTES)
    try:
        minutes = float(text)
    except ValueError:
        minutes = math.nan
    if not 0 < minutes < math.inf:
        raise UsageError(
            f"{text!r} is no number of minutes", where=DEAD_RUN_MINUTES, todo="set it to 15"
        )
    return minutes
