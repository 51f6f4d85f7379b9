"""Subjects whose records were erased, and the lock between an erasure and users of records.

``erased.json`` in the state folder keeps no id, but keyed digests of ids (HMAC): ids are small
numbers, which a plain digest would reveal. The key is in the same file.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from flowsheet.errors import CheckFailed
from flowsheet.state.home import home, home_path
from flowsheet.state.json_files import read_json, write_json
from flowsheet.state.locks import shared_lock, try_lock

IdKind = Literal["subject", "stay"]


@dataclass(frozen=True)
class ErasedIds:
    """Keyed digests of the ids of erased subjects and of their stays."""

    key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    dates: Mapping[str, str] = field(default_factory=dict)
    """{digest of a subject or a stay: day of the erasure}."""

    @classmethod
    def load(cls) -> ErasedIds:
        """What was erased from this state folder.

        Raises:
            CheckFailed: the list is damaged; erased subjects could come back.
        """
        file = home_path() / "erased.json"
        if not file.is_file():
            return cls()
        try:
            content = read_json(file)
            return cls(bytes.fromhex(content["key"]), dict(content["dates"]))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise CheckFailed(
                "the list of erased subjects cannot be read",
                where=str(file),
                todo="restore it from a backup; without it, erased subjects could come back",
            ) from error

    def digest(self, kind: IdKind, number: int) -> str:
        """The keyed digest of an id."""
        return hmac.new(self.key, f"{kind} {number}".encode(), hashlib.sha256).hexdigest()

    def find(self, kind: IdKind, numbers: Iterable[int]) -> set[int]:
        """Those of the ids that were erased."""
        if not self.dates:
            return set()
        return {number for number in numbers if self.digest(kind, number) in self.dates}

    def add(self, subjects: Iterable[int], stays: Iterable[int]) -> ErasedIds:
        """Add ids to the list, and write it."""
        today = f"{datetime.now(UTC):%Y-%m-%d}"
        digests = [self.digest("subject", subject) for subject in subjects]
        digests += [self.digest("stay", stay) for stay in stays]
        dates = {**dict.fromkeys(digests, today), **self.dates}
        extended = ErasedIds(self.key, dates)
        write_json(home() / "erased.json", {"key": self.key.hex(), "dates": dates})
        (home() / "erased.json").chmod(0o600)
        return extended


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
        yield


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
