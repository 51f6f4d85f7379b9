"""The state folder, ``FLOWSHEET_HOME``."""

from __future__ import annotations

import contextlib
import os
import uuid
from pathlib import Path

from flowsheet.errors import UsageError


def home() -> Path:
    """The state folder: ``$FLOWSHEET_HOME``, by default ``./.flowsheet``; created when missing.

    Raises:
        UsageError: the folder cannot be created or written to.
    """
    path = Path(os.environ.get("FLOWSHEET_HOME") or ".flowsheet").absolute()
    probe = path / f".probe-{uuid.uuid4().hex}"
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"\0" * 4096)
        probe.unlink()
    except OSError as error:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
        raise UsageError(
            f"FLOWSHEET_HOME is not writable: {error.strerror or error}",
            where=str(path),
            todo="set FLOWSHEET_HOME to a writable folder on a disk with free space",
        ) from error
    return path
