"""Clients of a server and their tokens, from a private file that is read again when it changes."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from pathlib import Path

from flowsheet.errors import FlowsheetError, UsageError
from flowsheet.serving.structured_logging import log_event

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_TOKEN = re.compile(r"[\x21-\x7e]{20,512}")
_MAKE_ONE = "make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
_OTHERS = 0o077
_GROUP_READ = 0o040


class TokenFile:
    """{token: name of its client}, as one line ``name:token`` for each client.

    A client may have several lines, so that its token can be replaced without a gap. Only digests
    are kept in memory.
    """

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            UsageError: it cannot be read, other users can read it, or a line is wrong.
        """
        self._path = path
        self._signature = _signature(path)
        self._names = _read(path)

    def client(self, token: str) -> str | None:
        """The name of the client with that token; None if there is none."""
        self._reload_if_changed()
        sent = hashlib.sha256(token.encode(errors="replace")).digest()
        found = None
        for digest, name in self._names.items():  # all of them: the time tells nothing
            if hmac.compare_digest(digest, sent):
                found = name
        return found

    def _reload_if_changed(self) -> None:
        """Read a changed file; if it is wrong, the log says so and the tokens stay as they were."""
        signature = _signature(self._path)
        if signature == self._signature:
            return
        self._signature = signature
        try:
            self._names = _read(self._path)
        except FlowsheetError as error:
            log_event("tokens_not_reloaded", reason=error.what, where=error.where)
        else:
            log_event("tokens_reloaded", clients=sorted(set(self._names.values())))


def _signature(path: Path) -> tuple[int, ...] | None:
    """Changes whenever the file does."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_mode


def _read(path: Path) -> dict[bytes, str]:
    """{sha256 of a token: name of its client}."""
    try:
        text = path.read_text(encoding="utf-8")
        _check_private(path)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise UsageError(
            f"the token file cannot be read: {reason}",
            where=str(path),
            todo="name a readable file with --token-file",
        ) from error
    names: dict[bytes, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, _, token = (part.strip() for part in line.partition(":"))
        digest = hashlib.sha256(token.encode()).digest()
        is_wrong = not _NAME.fullmatch(name) or not _TOKEN.fullmatch(token)
        if is_wrong or digest in names:
            raise UsageError(
                "a line of the token file is no name:token of its own, or the token is too short",
                where=f"{path}, line {number}",
                todo=f"use 20 characters or more; {_MAKE_ONE}",
            )
        names[digest] = name
    if not names:
        raise UsageError(
            "the token file names no client", where=str(path), todo=f"add name:token; {_MAKE_ONE}"
        )
    return names


def _check_private(path: Path) -> None:
    """Only the server may read it; a file that the platform mounts may belong to root."""
    status = path.stat()
    is_mounted = status.st_uid == 0 and os.geteuid() != 0
    forbidden = _OTHERS & ~_GROUP_READ if is_mounted else _OTHERS
    if status.st_mode & forbidden:
        raise UsageError(
            "other users can read the token file",
            where=f"{path} (mode {status.st_mode & 0o777:04o})",
            todo=f"chmod 600 {path}",
        )
