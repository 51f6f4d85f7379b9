"""Write folders and files atomically, and remove what killed processes left of such attempts.

While a process fills a temporary folder or file it holds a lock on it, so that others can tell an
abandoned one from one that is still being written.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from flowsheet.errors import FlowsheetError
from flowsheet.state.home import PRIVATE
from flowsheet.state.locks import shared_lock, try_lock

_PART = re.compile(r"\.(?P<target>.+)\.[0-9a-f]{8}\.part(?P<old>\.old)?")
"""Names of temporary folders and files."""


@contextlib.contextmanager
def publish(target: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``target`` when the block ends without error.

    An existing ``target`` is replaced only then. After an error the temporary folder is removed.

    Raises:
        FlowsheetError: the disk is full or not writable.
    """
    with _write_errors(target), _locked_part(target, _make_folder) as part:
        yield part
        old = part.with_name(f"{part.name}.old")
        if target.exists():
            target.rename(old)
        part.rename(target)
        shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def publish_file(target: Path) -> Iterator[Path]:
    """A temporary file that becomes ``target`` when the block ends without error.

    Raises:
        FlowsheetError: the disk is full or not writable.
    """
    with _write_errors(target), _locked_part(target, _make_file) as part:
        yield part
        part.replace(target)


def sweep_parts(folder: Path, target: str | None = None) -> None:
    """Remove temporary folders and files that killed processes left in a folder.

    Args:
        folder: the folder that the results are published in.
        target: name of one result; without it, all are swept.
    """
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        match = _PART.fullmatch(path.name)
        if match and target in (None, match["target"]):
            _remove_abandoned(path, folder / match["target"], is_old=bool(match["old"]))


def _remove_abandoned(path: Path, target: Path, *, is_old: bool) -> None:
    """Remove a temporary folder or file that no process holds.

    A process that was killed between its two renames has left no ``target``, but the old one under
    a temporary name: that one gets its name back.
    """
    part = path.with_name(path.name.removesuffix(".old"))
    with contextlib.ExitStack() as stack:
        try:
            is_free = not part.exists() or stack.enter_context(try_lock(part))
        except OSError:  # gone by now, or on a file system that does not lock folders
            return
        if not is_free:
            return
        if is_old and not target.exists():
            path.rename(target)
        else:
            _remove(path)


@contextlib.contextmanager
def _locked_part(target: Path, create: Callable[[Path], object]) -> Iterator[Path]:
    target.parent.mkdir(parents=True, exist_ok=True)
    sweep_parts(target.parent, target.name)
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")
    with contextlib.ExitStack() as stack:
        create(part)
        with contextlib.suppress(OSError):  # a file system that does not lock folders
            stack.enter_context(shared_lock(part))
        if not part.exists():  # another process swept it before it was locked
            create(part)
        try:
            yield part
        finally:
            _remove(part)


def _make_folder(path: Path) -> None:
    path.mkdir(mode=PRIVATE)


def _make_file(path: Path) -> None:
    path.touch(mode=0o600)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _write_errors(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FlowsheetError(  # numpy's short writes carry no errno
            f"could not write: {error.strerror or error}",
            where=str(target),
            todo="free disk space or choose another folder",
        ) from error
