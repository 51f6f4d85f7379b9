"""Folders in object stores: Amazon S3 and its like, Google Cloud Storage, Azure Blob Storage.

An object is written completely or not at all, but there is no rename and there are no folders: a
"folder" is what the keys of some objects begin with. So of several objects that belong together,
the one that names the others with their sha256 is written last and read first.

Credentials come from the environment only. Calls that get no answer are repeated for
``FLOWSHEET_STORAGE_RETRY_SECONDS``.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from flowsheet.errors import CheckFailed, UsageError
from flowsheet.state.storage_providers import (
    check_installed,
    explain_error,
    is_bucket_missing,
    is_outage,
    open_store,
)

if TYPE_CHECKING:
    from obstore.store import ObjectStore

RETRY_SECONDS = "FLOWSHEET_STORAGE_RETRY_SECONDS"
"""Environment variable: for how long calls without an answer are repeated; by default 120 s."""
_DEFAULT_RETRY_SECONDS = 120.0
_MAX_PAUSE = 10.0
"""Seconds between two attempts."""
_CHUNK = 8 * 1024 * 1024
_MAX_CHUNKS = 9_000
"""S3 takes at most 10,000 parts of an object."""
Result = TypeVar("Result")


@dataclass(frozen=True)
class StoredBytes:
    """The content of a small object, and which version of it that is."""

    content: bytes
    version: Mapping[str, str]


@dataclass(frozen=True)
class ListedObject:
    """An object in a folder."""

    name: str
    """Relative to the folder."""
    size: int
    modified: datetime


@dataclass(frozen=True)
class RemoteFolder:
    """A folder in an object store."""

    scheme: str
    bucket: str
    """With Azure: the container, or ``container@account``."""
    prefix: str = ""

    @property
    def url(self) -> str:
        """The folder as users write it."""
        return f"{self.scheme}://{self.bucket}/{self.prefix}".rstrip("/")

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        """The last part of the URL."""
        return (self.prefix or self.bucket).rpartition("/")[2]

    @property
    def parent(self) -> RemoteFolder:
        """The folder that this one is in; the bucket is in itself."""
        return RemoteFolder(self.scheme, self.bucket, self.prefix.rpartition("/")[0])

    def __truediv__(self, name: str) -> RemoteFolder:
        """A folder in this one."""
        return RemoteFolder(self.scheme, self.bucket, f"{self.prefix}/{name}".strip("/"))

    def read(self, name: str) -> StoredBytes | None:
        """A small object; None if there is no such object.

        Raises:
            FlowsheetError: the object store does not answer, or refuses.
        """

        def get() -> StoredBytes:
            import obstore

            result = obstore.get(self._store, name)
            version = {k: v for k in ("e_tag", "version") if (v := result.meta.get(k))}
            return StoredBytes(bytes(result.bytes()), {k: str(v) for k, v in version.items()})

        return self._call(get, name, missing=None)

    def write(self, name: str, content: bytes) -> None:
        """Write a small object, or replace it.

        Raises:
            FlowsheetError: the object store does not answer, or refuses.
        """
        self._put(name, content, "overwrite")

    def create(self, name: str, content: bytes) -> bool:
        """Write a small object unless there is one of that name; whether it was written.

        Raises:
            FlowsheetError: the object store does not answer, or refuses.
        """
        return self._put(name, content, "create")

    def replace(self, name: str, content: bytes, version: Mapping[str, str]) -> bool:
        """Replace a small object if it still is that version; whether it was replaced.

        Raises:
            FlowsheetError: the object store does not answer, or refuses.
        """
        return self._put(name, content, dict(version))

    def upload(self, file: Path, name: str) -> None:
        """Copy a local file to an object, or replace it.

        Raises:
            FlowsheetError: the object store does not answer, or refuses.
        """
        chunk = max(_CHUNK, file.stat().st_size // _MAX_CHUNKS)

        def put() -> None:
            import obstore

            obstore.put(self._store, name, file, chunk_size=chunk)

        self._call(put, name)

    def download(self, name: str, target: Path, sha256: str) -> None:
        """Copy an object to a local file, which is removed unless it has the digest.

        Raises:
            CheckFailed: there is no such object, or it has other contents.
            FlowsheetError: the object store does not answer, or refuses.
        """

        def get() -> str:
            import obstore

            digest = hashlib.sha256()
            with target.open("wb") as stream:
                for chunk in obstore.get(self._store, name).stream(min_chunk_size=_CHUNK):
                    stream.write(chunk)
                    digest.update(chunk)
            return digest.hexdigest()

        target.parent.mkdir(parents=True, exist_ok=True)
        found: str | None = None
        try:
            found = self._call(get, name, missing=None)
        finally:
            if found != sha256:
                target.unlink(missing_ok=True)
        if found != sha256:
            raise CheckFailed(
                "an object does not exist"
                if found is None
                else "an object has other contents than were written: its sha256 differs",
                where=f"{self.url}/{name}",
                todo="it may be being replaced: try again; else write it again",
            )

    def list(self) -> list[ListedObject]:
        """Every object in the folder, sorted by name.

        Raises:
            FlowsheetError: the object store does not answer, or refuses.
        """

        def find() -> list[ListedObject]:
            import obstore

            pages = obstore.list(self._store, chunk_size=1000)
            return [
                ListedObject(entry["path"], entry["size"], entry["last_modified"])
                for page in pages
                for entry in page
            ]

        objects: list[ListedObject] = self._call(find, "", missing=[])
        return sorted(objects, key=lambda entry: entry.name)

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects; those that do not exist do not matter.

        Raises:
            FlowsheetError: the object store does not answer, or refuses.
        """
        paths = sorted(names)
        if not paths:
            return

        def remove() -> None:
            import obstore

            try:
                obstore.delete(self._store, paths)
            except FileNotFoundError as error:
                if is_bucket_missing(error):
                    raise
                for path in paths:  # some services stop at the first one that does not exist
                    with contextlib.suppress(FileNotFoundError):
                        obstore.delete(self._store, [path])

        self._call(remove, paths[0], missing=None)

    @property
    def _store(self) -> ObjectStore:
        return open_store(self.scheme, self.bucket, self.prefix)

    def _put(self, name: str, content: bytes, mode: Any) -> bool:
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        def put() -> bool:
            import obstore

            try:
                obstore.put(self._store, name, content, mode=mode, use_multipart=False)
            except (AlreadyExistsError, PreconditionError):
                return False
            return True

        if self._call(put, name):
            return True
        current = self.read(name)  # an attempt without an answer may have written it
        return current is not None and current.content == content

    def _call(self, action: Callable[[], Result], name: str, missing: Any = ...) -> Result:
        """Call the object store until it answers.

        Args:
            action: the call, which may be repeated.
            name: of the object, for messages.
            missing: the result if there is no such object; without it, that is an error.
        """
        check_installed(self.scheme)
        from obstore.exceptions import BaseError

        where = f"{self.url}/{name}".rstrip("/")
        deadline = time.monotonic() + _retry_seconds()
        for pause in _pauses():
            try:
                return _run_interruptibly(action)
            except FileNotFoundError as error:
                if missing is ... or is_bucket_missing(error):
                    raise explain_error(error, self.scheme, where) from error
                return missing  # type: ignore[no-any-return]
            except BaseError as error:
                is_over = time.monotonic() + pause > deadline
                if is_over or not is_outage(error):
                    raise explain_error(error, self.scheme, where) from error
            if pause == _FIRST_NOTICE:
                line = f"{self.scheme}://{self.bucket} does not answer; trying again"
                print(line, file=sys.stderr, flush=True)
            time.sleep(pause)
        raise AssertionError("pauses end")


_FIRST_NOTICE = 2.0
"""The pause before which an outage is reported: shorter ones pass unnoticed."""


def _pauses() -> Iterator[float]:
    pause = 0.5
    while True:
        yield pause
        pause = min(2 * pause, _MAX_PAUSE)


def _retry_seconds() -> float:
    text = os.environ.get(RETRY_SECONDS) or str(_DEFAULT_RETRY_SECONDS)
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise UsageError(
            f"{RETRY_SECONDS} is not a number of seconds", where=text, todo="set it to 120, say"
        )
    return seconds


def _run_interruptibly(action: Callable[[], Result]) -> Result:
    """Call in another thread: Ctrl-C would wait for the end of a call in this one."""
    outcome: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(action())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="object store", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.2)
    if errors:
        raise errors[0]
    return outcome[0]
