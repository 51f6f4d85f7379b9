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
    """Zoned times as the local times of a zone, without it.

    In zones with summer time, times from the year 2100 on are null.
    """
    local = times.dt.convert_time_zone(time_zone).dt.replace_time_zone(None)
    return pl.when(local < _LATEST).then(local) if has_summer_time(time_zone) else local


def has_summer_time(time_zone: str) -> bool:
    """Whether clocks of the zone change in the years to come.

    >>> has_summer_time("America/New_York"), has_summer_time("Etc/GMT+5")
    (True, False)
    """
    zone = ZoneInfo(time_zone)
    months = [datetime(_LATEST.year - 1, month, 1, tzinfo=zone) for month in range(1, 13)]
    return len({month.utcoffset() for month in months}) > 1
