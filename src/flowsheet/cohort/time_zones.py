"""Time zones that a user declares, and the local times of zoned ones."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import polars as pl
from pydantic import AfterValidator

_LATEST = datetime(2100, 1, 1)
"""polars knows no summer time from here on."""


def check_time_zone(name: str | None) -> str | None:
    """The name, if it is one of the IANA time zone database.

    Raises:
        ValueError: there is no such zone.
    """
    if name is None:
        return None
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"there is no time zone {name!r}; use one like Europe/Berlin") from error
    return name


TimeZone = Annotated[str | None, AfterValidator(check_time_zone)]
"""A zone of the IANA time zone database, such as Europe/Berlin; the type of options."""


def to_local_time(times: pl.Expr, time_zone: str) -> pl.Expr:
    """Zoned times as the local times of a zone, without it; null from the year 2100 on."""
    local = times.dt.convert_time_zone(time_zone).dt.replace_time_zone(None)
    return pl.when(local < _LATEST).then(local)
