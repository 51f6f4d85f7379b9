"""The state folder, ``FLOWSHEET_HOME``, which no other user of the machine can read."""

from __future__ import annotations

import contextlib
import os
import stat
import uuid
from pathlib import Path

from flowsheet.errors import UsageError
from flowsheet.state.locations import local_path

PRIVATE = 0o700


def home() -> Path:
    """The state folder: ``$FLOWSHEET_HOME``, by default ``./.flowsheet``; created when missing.

    Raises:
        UsageError: the folder cannot be created or written to, or its name cannot be used.
    """
    path = home_path()
    probe = path / f".probe-{uuid.uuid4().hex}"
    try:
        make_private_dir(path)
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


def home_path() -> Path:
    """The path of the state folder, which is not created.

    Raises:
        UsageError: its name cannot be used.
    """
    text = os.environ.get("FLOWSHEET_HOME") or ".flowsheet"
    path = local_path(
        text,
        "FLOWSHEET_HOME",
        "set FLOWSHEET_HOME to a local folder, for its databases and locks; stages can be in an "
        "object store with FLOWSHEET_STORE, extracts with --out (docs/storage.md)",
    ).absolute()
    _check_name(path)
    return path


def _check_name(path: Path) -> None:
    """Refuse names that the addresses of SQLite files cannot hold: they end at a question mark."""
    name = str(path)
    if "?" in name or not name.isprintable():
        raise UsageError(
            "FLOWSHEET_HOME has a question mark or a character that cannot be printed in its path, "
            "which the databases in it do not allow",
            where=repr(name),
            todo="rename the folder, or set FLOWSHEET_HOME to another one",
        )


def make_private_dir(path: Path) -> None:
    """Create a folder that only its owner can read, or take others' access to an existing one.

    Another user's folder, and one that is shared by design (sticky, like ``/tmp``), stay as they
    are; ``flowsheet doctor`` reports them.

    Raises:
        OSError: the folder cannot be created.
    """
    path.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
    status = path.stat()
    is_shared = bool(status.st_mode & stat.S_ISVTX)
    if is_open_to_others(path) and status.st_uid == os.geteuid() and not is_shared:
        path.chmod(PRIVATE)


def is_open_to_others(path: Path) -> bool:
    """Whether other users may read, write or enter."""
    return bool(path.stat().st_mode & 0o077)
