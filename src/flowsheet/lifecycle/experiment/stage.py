"""Stages of an experiment: built once for the content they depend on, then reused.

``stage.json`` keeps the sha256 of every file of a stage, and the other stages that its files refer
to, its parts. A process verifies a stage and its parts when it uses it for the first time, so that
other bytes than the written ones are never reused.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from flowsheet.config import FrozenModel
from flowsheet.errors import FlowsheetError, Unreachable
from flowsheet.state.erasures import check_shared_erasures, use_records
from flowsheet.state.hashing import file_digest
from flowsheet.state.json_files import read_json, write_json
from flowsheet.state.publish import publish, sweep_parts
from flowsheet.state.shared_stages import (
    DamagedStage,
    drop_outdated_stage,
    fetch_stage,
    list_shared_stages,
    mark_built,
    share_stage,
)
from flowsheet.state.stage_metadata import METADATA_FILE, PartKeys, list_parts, read_metadata
from flowsheet.state.store import Store

_MAX_NAMES = 3
"""Files that a warning names."""

_Identity = tuple[str, int, int]
"""Path, inode and time of change of a ``stage.json``."""

_verified: dict[_Identity, PartKeys] = {}
"""The stages whose own files this process has verified, and their parts."""


class Stage(FrozenModel):
    """A reference to a finished stage: small enough to pass between processes and machines."""

    kind: str
    key: str
    path: str
    reused: bool
    seconds: float
    """How long the build took, also when an earlier run did it."""

    @property
    def folder(self) -> Path:
        """The folder with the stage's files, which are verified once in each process.

        Raises:
            FlowsheetError: a file is missing or was changed.
        """
        path = self._find_path()
        if changes := _find_changes(path, self.key):
            raise FlowsheetError(
                f"the stage {self.kind} is not as it was written: {changes}",
                where=str(path),
                todo="start again: the stage is built again",
            )
        return path

    def _find_path(self) -> Path:
        """The folder on this machine; a stage that another one built is fetched."""
        store = Store.open()
        if store.remote is None:
            return Path(self.path)
        check_shared_erasures()
        fetch_stage(store, self.kind, self.key)
        path = store.path(self.kind, self.key)
        _fetch_missing_parts(store, path)
        return path


Build = Callable[[Path], Iterable[Stage] | None]
"""Fills the folder that it is given; returns the stages that the files refer to, if there are any.
"""


def run_stage(kind: str, key: str, build: Build) -> Stage:
    """Find the stage with this key in the store, or build it.

    Concurrent runs that need the same stage build it once. A run that is killed leaves no partial
    stage behind, and a stage whose files are not as they were written is built again.

    Args:
        kind: folder of the store, such as "windows".
        key: digest of everything that the contents depend on.
        build: fills the folder of the stage.
    """
    store = Store.open()
    with use_records(), store.lock(kind, key):
        path = store.path(kind, key)
        shared_list = check_shared_erasures()
        is_intact = _fetch(store, kind, key)
        drop_outdated_stage(store, kind, key, shared_list)
        changes = _find_changes(path, key) if store.has(kind, key) else "missing"
        if changes:
            if store.has(kind, key):
                _warn(f"[{kind}] {path} is not as it was written: {changes}; building it again")
            sweep_parts(path.parent)
            _build(path, key, build)
            if store.remote:
                _keep_unless_erased(path, shared_list)
        for part in list_parts(read_metadata(path)):
            share_stage(store, *part)
        share_stage(store, kind, key, replace=not is_intact)
        seconds = read_json(path / METADATA_FILE)["seconds"]
        return Stage(kind=kind, key=key, path=str(path), reused=not changes, seconds=seconds)


def _keep_unless_erased(path: Path, shared_list: str) -> None:
    """Delete a stage that was built while another machine erased subjects.

    Raises:
        FlowsheetError: it was.
    """
    mark_built(path, shared_list)
    try:
        check_shared_erasures()
    except Unreachable:
        raise
    except FlowsheetError:
        shutil.rmtree(path)
        raise


def is_complete(kind: str, key: str) -> bool:
    """Whether the store has the stage with this key, with every file as it was written."""
    store = Store.open()
    _fetch(store, kind, key)
    return store.has(kind, key) and not _find_changes(store.path(kind, key), key)


def find_stage(kind: str, key: str) -> Stage | None:
    """The intact stage with this key; None if the store has none."""
    store = Store.open()
    stage = _find_intact(store, kind, store.path(kind, key).name, check_shared_erasures())
    return stage if stage and stage.key == key else None


def find_stages(kind: str, prefix: str) -> Iterator[Stage]:
    """The intact stages of a kind whose keys begin so, by key; shared ones are fetched.

    Args:
        kind: folder of the store.
        prefix: the first letters of the keys, 16 at most.
    """
    store = Store.open()
    shared_list = check_shared_erasures()
    names = {path.name for path in (store.root / kind).glob(f"{prefix}*") if path.is_dir()}
    names |= {key for _, key in list_shared_stages(store, kind) if key.startswith(prefix)}
    for name in sorted(names):
        if stage := _find_intact(store, kind, name, shared_list):
            yield stage


def _find_intact(store: Store, kind: str, name: str, shared_list: str) -> Stage | None:
    """The stage in a folder of the store, if it is intact; a shared one is fetched.

    Args:
        store: the store.
        kind: of the stage.
        name: the first letters of its key.
        shared_list: digest of the present list of erased subjects.
    """
    path = store.path(kind, name)
    with contextlib.suppress(DamagedStage):
        fetch_stage(store, kind, name)
    drop_outdated_stage(store, kind, name, shared_list)
    metadata = read_metadata(path)
    if not metadata or _find_changes(path, metadata["key"]):
        return None
    key, seconds = metadata["key"], metadata["seconds"]
    return Stage(kind=kind, key=key, path=str(path), reused=True, seconds=seconds)


def _fetch(store: Store, kind: str, key: str) -> bool:
    """Fetch a stage that the object store has, and its parts; False if it lacks any of this.

    A copy that is not as it was written is fetched again.
    """
    path = store.path(kind, key)
    if store.remote and store.has(kind, key) and _find_own_changes(path, key):
        shutil.rmtree(path)
    try:
        fetch_stage(store, kind, key)
    except DamagedStage as error:
        _warn(f"[{kind}] {error.where}: {error.what}; building it again")
        return False
    parts = list_parts(read_metadata(path))
    are_intact = [_fetch(store, *part) and store.has(*part) for part in parts]
    return all(are_intact)


def _fetch_missing_parts(store: Store, path: Path) -> None:
    for part in list_parts(read_metadata(path)):
        if not store.has(*part):
            fetch_stage(store, *part)


def replace_stage(path: Path, build: Callable[[Path, Path], None]) -> None:
    """Replace a stage by another one with the same key, such as one without an erased subject.

    Args:
        path: folder of the stage.
        build: fills the second folder from the first, which is the old one.
    """
    metadata = read_json(path / METADATA_FILE)
    with publish(path) as folder:
        build(path, folder)
        _write_metadata(folder, metadata["key"], metadata["seconds"], metadata.get("parts", ()))


def update_checksums(folder: Path, files: Iterable[Path]) -> bool:
    """Write the sha256 of these files of a stage, or of a copy of one, as they are now.

    Returns:
        Whether one has changed.
    """
    metadata = read_json(folder / METADATA_FILE)
    recorded: dict[str, str] = metadata.get("sha256", {})
    names = {str(file.relative_to(folder)): file for file in files}
    current = {name: file_digest(file) for name, file in names.items() if name in recorded}
    if current.items() <= recorded.items():
        return False
    write_json(folder / METADATA_FILE, {**metadata, "sha256": {**recorded, **current}})
    return True


def _build(path: Path, key: str, build: Build) -> None:
    started = time.perf_counter()
    with publish(path) as folder:
        parts = tuple((part.kind, part.key) for part in build(folder) or ())
        _write_metadata(folder, key, round(time.perf_counter() - started, 3), parts)
    _verified[_identify(path)] = parts


def _write_metadata(
    folder: Path, key: str, seconds: float, parts: Iterable[tuple[str, str]]
) -> None:
    listed = sorted(list(part) for part in parts)
    metadata = {"key": key, "seconds": seconds, "sha256": _file_digests(folder)}
    write_json(folder / METADATA_FILE, metadata | ({"parts": listed} if listed else {}))


def _find_changes(path: Path, key: str) -> str:
    """What is wrong with the files of a stage or of its parts; empty if all are as written."""
    if changes := _find_own_changes(path, key):
        return changes
    for kind, part_key in _verified[_identify(path)]:
        part = path.parents[1] / kind / part_key[:16]
        if changes := _find_changes(part, part_key):
            return f"{kind} {part.name}: {changes}"
    return ""


def _find_own_changes(path: Path, key: str) -> str:
    try:
        identity = _identify(path)
        if identity in _verified:
            return ""
        metadata: dict[str, Any] = read_json(path / METADATA_FILE)
        expected: dict[str, str] = metadata.get("sha256", {})
        recorded_key = metadata.get("key")
        parts = list_parts(metadata)
        changed = _changed_files(path, expected)
    except (OSError, ValueError, AttributeError, TypeError):
        return f"{METADATA_FILE} cannot be read"
    if not expected or recorded_key != key:
        return f"{METADATA_FILE} has no checksums of this stage"
    if not changed:
        _verified[identity] = parts
        return ""
    more = f" and {len(changed) - _MAX_NAMES} more" if len(changed) > _MAX_NAMES else ""
    return f"{', '.join(changed[:_MAX_NAMES])}{more}"


def _changed_files(path: Path, expected: Mapping[str, str]) -> list[str]:
    """Files that are missing or have other contents; further files do not matter."""
    changed = []
    for name, sha256 in sorted(expected.items()):
        file = path / name
        if not file.is_file() or file_digest(file) != sha256:
            changed.append(name)
    return changed


def _file_digests(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): file_digest(file)
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def _identify(path: Path) -> tuple[str, int, int]:
    status = (path / METADATA_FILE).stat()
    return (str(path), status.st_ino, status.st_mtime_ns)


def _warn(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
