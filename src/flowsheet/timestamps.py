"""Moments as text for people: listings, reports and model cards show minutes."""

from __future__ import annotations

from datetime import datetime


def format_minute(moment: datetime) -> str:
    """The moment to the minute, on its own clock.

    >>> format_minute(datetime(2026, 1, 31, 9, 5, 59))
    '2026-01-31 09:05'
    """
    return moment.strftime("%Y-%m-%d %H:%M")


def format_local_minute(moment: datetime) -> str:
    """The moment to the minute, in the time zone of this machine."""
    return format_minute(moment.astimezone())


def local_now_text() -> str:
    """The present moment to the minute, in the time zone of this machine."""
    return format_local_minute(datetime.now().astimezone())
