"""The server's log: one JSON object a line on standard error, without any row of a record."""

from __future__ import annotations

import contextlib
import logging
import sys
from datetime import UTC, datetime
from typing import Any

import orjson

from flowsheet.errors import mask_secrets


def log_event(event: str, **fields: Any) -> None:
    """Write one line: the time, the kind of event and its fields, without secrets."""
    fields = {
        name: mask_secrets(value) if isinstance(value, str) else value
        for name, value in fields.items()
    }
    write_line(event, **fields)


def write_line(event: str, **fields: Any) -> None:
    """:func:`log_event` for fields that cannot contain a secret; it costs less.

    A log that cannot be written, as when what reads it is gone, ends nothing.
    """
    line = orjson.dumps({"at": datetime.now(UTC), "event": event, **fields}, default=str)
    with contextlib.suppress(OSError, ValueError):  # ValueError: the stream is closed
        sys.stderr.write(line.decode() + "\n")
        sys.stderr.flush()


class StructuredHandler(logging.Handler):
    """Writes what libraries log as events ``log``, without tracebacks."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the first line of the record's message."""
        log_event(
            "log",
            level=record.levelname.lower(),
            logger=record.name,
            message=record.getMessage().split("\n", 1)[0],
        )
