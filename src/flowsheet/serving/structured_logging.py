"""What the server writes about itself: one JSON object a line on standard error, never a row of anybody's record."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Any

import orjson


def journal(event: str, **about: Any) -> None:
    """Write a line."""
    line = orjson.dumps({"at": datetime.now(UTC), "event": event, **about}, default=str)
    sys.stderr.write(line.decode() + "\n")
    sys.stderr.flush()


class JournalHandler(logging.Handler):
    """Puts what libraries log into the journal, without tracebacks."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record's message."""
        journal(
            "log",
            level=record.levelname.lower(),
            logger=record.name,
            message=record.getMessage().split("\n", 1)[0],
        )
