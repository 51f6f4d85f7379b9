"""What the state folder holds that is old, how large it is, and what needs it.

The store can be built again from the records. Only the extracts of registered models are needed
without a new run, by the next promotion: they are kept. Answers that servers kept cannot be made
again: they are deleted only if this is asked for.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from flowsheet.serving.answer_files import iter_day_folders, list_answer_folders
from flowsheet.state.erasures import exclude_others
from flowsheet.state.home import home
from flowsheet.state.object_store import RemoteFolder
from flowsheet.state.shared_stages import (
    delete_shared_stage,
    list_shared_parts,
    list_shared_stages,
)
from flowsheet.state.stage_metadata import list_parts, read_metadata
from flowsheet.state.store import Store
from flowsheet.tracking.run_records import list_extracts_of_registered_models

ANSWERS = "answers"
"""Kind of the folders with a day of answers."""
_SECONDS_PER_DAY = 86_400.0
_WITH_PARTS = "windows"
"""Kind of the stages that refer to others, their parts; they keep them."""
_Key = TypeVar("_Key")
_KEPT_FOLDERS = (".locks", ".work")


@dataclass(frozen=True)
class OldFolder:
    """A folder that nothing has written to for a while."""

    path: Path | RemoteFolder
    kind: str
    """Of the stage; ``unfinished`` or ``rerun`` for what a killed command left, ``answers`` for a
    day of answers. In an object store with ``shared`` before it."""
    size: int
    """Bytes."""
    days: float
    """Since the last write."""
    needed_by: str
    """A registered version, or ``flowsheet outcomes``; empty if nothing but a repeated run needs
    it."""


def find_old_folders(min_days: float, *, with_answers: bool = False) -> list[OldFolder]:
    """Folders of the store, and days of answers, that are at least that old, the largest first.

    Args:
        min_days: days since the last write.
        with_answers: nothing needs the answers any more.
    """
    needed = {key[:16]: label for key, label in list_extracts_of_registered_models().items()}
    found = []
    folders = list(_list_folders())
    last_write = {path: _last_write(path) for _, path in folders}
    store = Store.open()
    for path in [path for kind, path in folders if kind == _WITH_PARTS]:
        _renew(last_write, path, [store.path(*part) for part in list_parts(read_metadata(path))])
    for kind, path in folders:
        days = (time.time() - last_write[path]) / _SECONDS_PER_DAY
        if days >= min_days:
            needed_by = needed.get(path.name, "") if kind == "extract" else ""
            if kind == ANSWERS and not with_answers:
                needed_by = "flowsheet outcomes"
            found.append(OldFolder(path, kind, _size(path), days, needed_by))
    found += _find_old_shared_stages(min_days, needed)
    return sorted(found, key=lambda folder: (-folder.size, str(folder.path)))


def delete_old_folders(min_days: float, *, with_answers: bool = False) -> list[OldFolder]:
    """Delete those folders that nothing needs; returns what was found.

    Args:
        min_days: days since the last write.
        with_answers: delete answers, too.

    Raises:
        CheckFailed: a run, an ingest or an erasure is running, which uses them.
    """
    with exclude_others():
        folders = find_old_folders(min_days, with_answers=with_answers)
        for folder in folders:
            if folder.needed_by:
                continue
            if isinstance(folder.path, Path):
                shutil.rmtree(folder.path)
            else:
                delete_shared_stage(Store.open(), folder.path.parent.name, folder.path.name)
        return folders


def _list_folders() -> Iterator[tuple[str, Path]]:
    root = Store.open().root
    for kind in sorted(path for path in root.iterdir() if path.is_dir()):
        if kind.name not in _KEPT_FOLDERS:
            yield from ((kind.name, path) for path in sorted(kind.iterdir()) if path.is_dir())
    for label, folder in (("unfinished", root / ".work"), ("rerun", home() / "reruns")):
        if folder.is_dir():
            yield from ((label, path) for path in sorted(folder.iterdir()) if path.is_dir())
    for folder in list_answer_folders():
        yield from ((ANSWERS, path) for path in iter_day_folders(folder))


def _find_old_shared_stages(min_days: float, needed: Mapping[str, str]) -> Iterator[OldFolder]:
    store = Store.open()
    stages = list_shared_stages(store)
    last_write = {
        stage: max(entry.modified.timestamp() for entry in objects)
        for stage, objects in stages.items()
    }
    for kind, key in [stage for stage in stages if stage[0] == _WITH_PARTS]:
        parts = [(of_kind, part[:16]) for of_kind, part in list_shared_parts(store, kind, key)]
        _renew(last_write, (kind, key), parts)
    for (kind, key), objects in stages.items():
        assert store.remote is not None
        days = (time.time() - last_write[kind, key]) / _SECONDS_PER_DAY
        if days >= min_days:
            size = sum(entry.size for entry in objects)
            needed_by = needed.get(key, "") if kind == "extract" else ""
            yield OldFolder(store.remote / kind / key, f"shared {kind}", size, days, needed_by)


def _renew(last_write: dict[_Key, float], stage: _Key, parts: Iterable[_Key]) -> None:
    """Take the parts of a stage for as new as the stage itself."""
    for part in parts:
        if part in last_write:
            last_write[part] = max(last_write[part], last_write[stage])


def _last_write(path: Path) -> float:
    """When a file in the folder was written last, as a time stamp."""
    return max(file.stat().st_mtime for file in (path, *path.rglob("*")))


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
