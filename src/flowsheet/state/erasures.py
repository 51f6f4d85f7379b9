"""Subjects whose records were erased, and the lock between an erasure and users of records.

``erased.json`` in the state folder keeps no id, but keyed digests of ids (HMAC): ids are small
numbers, which a plain digest would reveal. The key is in the same file.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import secrets
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from flowsheet.errors import CheckFailed, FlowsheetError
from flowsheet.state.home import home, home_path
from flowsheet.state.json_files import read_json, write_json
from flowsheet.state.locks import shared_lock, try_lock
from flowsheet.state.object_store import RemoteFolder
from flowsheet.state.store import shared_folder

_FILE = "erased.json"
IdKind = Literal["subject", "stay"]


@dataclass(frozen=True)
class ErasedIds:
    """Keyed digests of the ids of erased subjects and of their stays."""

    key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    dates: Mapping[str, str] = field(default_factory=dict)
    """{digest of a subject or a stay: day of the erasure}."""
    shared: ErasedIds | None = None
    """The list, with another key, of the object store that several machines share."""

    @classmethod
    def load(cls) -> ErasedIds:
        """What was erased from this state folder, and by any machine from a shared store.

        Raises:
            CheckFailed: a list is damaged; erased subjects could come back.
            FlowsheetError: the object store does not answer, or refuses.
        """
        remote = shared_folder()
        stored = remote.read(_FILE) if remote else None
        shared = cls._parse(stored.content, f"{remote}/{_FILE}") if stored else None
        file = home_path() / _FILE
        own = cls._parse(file.read_bytes(), str(file)) if file.is_file() else cls()
        return replace(own, shared=shared)

    @classmethod
    def _parse(cls, content: bytes, where: str) -> ErasedIds:
        try:
            parsed = json.loads(content)
            return cls(bytes.fromhex(parsed["key"]), dict(parsed["dates"]))
        except (ValueError, TypeError, KeyError) as error:
            raise CheckFailed(
                "the list of erased subjects cannot be read",
                where=where,
                todo="restore it from a backup; without it, erased subjects could come back",
            ) from error

    def digest(self, kind: IdKind, number: int) -> str:
        """The keyed digest of an id."""
        return hmac.new(self.key, f"{kind} {number}".encode(), hashlib.sha256).hexdigest()

    def find(self, kind: IdKind, numbers: Iterable[int]) -> set[int]:
        """Those of the ids that were erased."""
        wanted = set(numbers)
        found = self.shared.find(kind, wanted) if self.shared else set()
        if not self.dates:
            return found
        return found | {number for number in wanted if self.digest(kind, number) in self.dates}

    def find_day(self, kind: IdKind, number: int) -> str | None:
        """The day on which the id was erased; None if it was not."""
        day = self.dates.get(self.digest(kind, number))
        return day or (self.shared.find_day(kind, number) if self.shared else None)

    def add(self, subjects: Iterable[int], stays: Iterable[int]) -> ErasedIds:
        """Add ids to the list, and write it; a shared list first."""
        subjects, stays = list(subjects), list(stays)
        if remote := shared_folder():
            self._add_to_shared(remote, subjects, stays)
        extended = self._extended(subjects, stays)
        write_json(home() / _FILE, extended._content())
        (home() / _FILE).chmod(0o600)
        return extended

    @classmethod
    def _add_to_shared(
        cls, remote: RemoteFolder, subjects: Sequence[int], stays: Sequence[int]
    ) -> None:
        is_written = False
        while not is_written:  # until no other machine wrote meanwhile
            stored = remote.read(_FILE)
            current = cls._parse(stored.content, f"{remote}/{_FILE}") if stored else cls()
            content = json.dumps(current._extended(subjects, stays)._content()).encode()
            if stored:
                is_written = remote.replace(_FILE, content, stored.version)
            else:
                is_written = remote.create(_FILE, content)

    def _extended(self, subjects: Sequence[int], stays: Sequence[int]) -> ErasedIds:
        today = f"{datetime.now(UTC):%Y-%m-%d}"
        digests = [self.digest("subject", subject) for subject in subjects]
        digests += [self.digest("stay", stay) for stay in stays]
        return ErasedIds(self.key, {**dict.fromkeys(digests, today), **self.dates})

    def _content(self) -> dict[str, object]:
        return {"key": self.key.hex(), "dates": dict(self.dates)}


def pending_file() -> Path:
    """The file of an erasure that has begun and has not ended."""
    return home() / "erasure.json"


@contextlib.contextmanager
def use_records() -> Iterator[None]:
    """Read or write records of patients during the block: no erasure runs meanwhile.

    Raises:
        CheckFailed: an erasure was interrupted, so the store may hold what it was to remove.
    """
    with shared_lock(_lock_file()):
        if _is_store_affected():
            raise CheckFailed(
                "the erasure of a subject was interrupted",
                where=str(pending_file()),
                todo="complete it: `flowsheet erase`",
            )
        with _uses.block():
            yield


class _Uses:
    """The blocks of :func:`use_records` in this process, on whatever threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks = 0
        self._shared_list: str | None = None
        """Digest of the object store's list when one of the blocks read it first."""

    @contextlib.contextmanager
    def block(self) -> Iterator[None]:
        with self._lock:
            self._blocks += 1
        try:
            yield
        finally:
            with self._lock:
                self._blocks -= 1
                if not self._blocks:
                    self._shared_list = None

    def is_as_before(self, shared_list: str) -> bool:
        """Whether no list was read since the first block began, or the same one."""
        with self._lock:
            if self._blocks and self._shared_list is None:
                self._shared_list = shared_list
            return self._shared_list in (None, shared_list)


_uses = _Uses()


def check_shared_erasures() -> str:
    """The digest of the object store's list of erased subjects; empty without a list.

    An erasure keeps out the users of records on its own machine only.

    Raises:
        FlowsheetError: another machine has erased subjects since :func:`use_records` began.
    """
    remote = shared_folder()
    stored = remote.read(_FILE) if remote else None
    shared_list = hashlib.sha256(stored.content).hexdigest() if stored else ""
    if not _uses.is_as_before(shared_list):
        raise FlowsheetError(
            "another machine has erased subjects since this run began",
            where=f"{remote}/{_FILE}",
            todo="start again: what had their records is built again without them",
        )
    return shared_list


@contextlib.contextmanager
def exclude_others() -> Iterator[None]:
    """Keep every :func:`use_records` out during the block.

    Raises:
        CheckFailed: another process uses records.
    """
    with try_lock(_lock_file()) as is_free:
        if not is_free:
            raise CheckFailed(
                "a run, an ingest or another process uses the records in the state folder",
                where=str(home()),
                todo="wait until it has ended or stop it, then start again",
            )
        yield


def _is_store_affected() -> bool:
    """Whether an interrupted erasure has left something in the store that a run could use."""
    if not pending_file().is_file():
        return False
    try:
        return any(place["in_store"] for place in read_json(pending_file())["places"])
    except (OSError, ValueError, TypeError, KeyError):
        return True


def _lock_file() -> Path:
    file = home() / ".records.lock"
    file.touch(mode=0o600)
    return file
