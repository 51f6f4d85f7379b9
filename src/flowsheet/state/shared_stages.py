"""Stages in an object store that several machines share (``FLOWSHEET_STORE=s3://...``).

::

    <kind>/<key>/stage.json      which attempt has the files, and their sha256; written last
    <kind>/<key>/<attempt>/...   the files of one upload, which are never written again
    id                           of the store: one that was lost and created again has another

The object store has the truth, and a machine's folder only copies. The first machine to write
``stage.json`` decides, and its files cannot be mixed with another's. A copy records where it was
shared, so that what was deleted there is deleted here too, before it is used again.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import uuid
from pathlib import Path
from typing import Any

from flowsheet.errors import CheckFailed, FlowsheetError
from flowsheet.state.json_files import read_json, write_json
from flowsheet.state.object_store import ListedObject, RemoteFolder
from flowsheet.state.publish import publish
from flowsheet.state.stage_metadata import METADATA_FILE, PartKeys, list_parts
from flowsheet.state.store import Store

_BUILT = "built.json"
"""File of a stage that this machine has built: which list of erased subjects there was."""
_SHARED = "shared.json"
"""File of a copy: the store, and the attempt that it is a copy of."""
_ID = "id"
"""Object with the id of the store."""


class DamagedStage(FlowsheetError):
    """A stage in the object store is not as it was written."""


def fetch_stage(store: Store, kind: str, key: str) -> None:
    """Make this machine's copy what the object store has; nothing without an object store.

    A stage that was not shared yet stays.

    Raises:
        DamagedStage: an object is missing or was changed.
        FlowsheetError: the object store does not answer, or refuses.
    """
    if store.remote is None:
        return
    path = store.path(kind, key)
    remote = _folder(store.remote, kind, key)
    with store.local_lock(f"fetch-{kind}", key):
        shared = _read_shared(path, remote)
        record = _read_record(remote, key)
        if record is None and shared:
            _drop_copy(
                path, is_deleted=_read_shared(path, remote, "store") == _read_id(store.remote)
            )
        elif record is not None and shared != record["attempt"]:
            _download(remote, record, path, _make_id(store.remote))


def fetch_all_stages(store: Store) -> None:
    """Fetch every stage that the object store has; nothing without an object store.

    Raises:
        DamagedStage: an object is missing or was changed.
        FlowsheetError: the object store does not answer, or refuses.
    """
    for kind, key in list_shared_stages(store):
        fetch_stage(store, kind, key)


def list_shared_stages(
    store: Store, of_kind: str = ""
) -> dict[tuple[str, str], list[ListedObject]]:
    """The objects of each stage in the object store, by kind and the first letters of its key.

    Args:
        store: the store.
        of_kind: the only kind that is listed; empty: all.
    """
    found: dict[tuple[str, str], list[ListedObject]] = {}
    if store.remote is None:
        return found
    for entry in (store.remote / of_kind).list():
        kind, _, rest = f"{of_kind}/{entry.name}".lstrip("/").partition("/")
        key, _, name = rest.partition("/")
        if name and not kind.startswith("."):
            found.setdefault((kind, key), []).append(entry)
    return found


def list_shared_parts(store: Store, kind: str, key: str) -> PartKeys:
    """Kind and key of the stages that one in the object store refers to; none if it is damaged."""
    if store.remote is None:
        return ()
    with contextlib.suppress(DamagedStage):
        return list_parts(_read_record(_folder(store.remote, kind, key), key) or {})
    return ()


def share_stage(store: Store, kind: str, key: str, *, replace: bool = False) -> None:
    """Upload a complete stage, unless it is there; nothing without an object store.

    Args:
        store: the store.
        kind: of the stage.
        key: of the stage.
        replace: whether another content of this stage in the object store is replaced.

    Raises:
        FlowsheetError: the object store does not answer, or refuses; the stage stays here, and is
            uploaded by the next run that needs it.
    """
    if store.remote is None:
        return
    path = store.path(kind, key)
    remote = _folder(store.remote, kind, key)
    if _read_shared(path, remote) and not replace:
        return
    metadata = read_json(path / METADATA_FILE)
    attempt = uuid.uuid4().hex[:16]
    for name in sorted(metadata["sha256"]):
        remote.upload(path / name, f"{attempt}/{name}")
    content = json.dumps({**metadata, "attempt": attempt}, indent=1, sort_keys=True).encode()
    if replace:
        remote.write(METADATA_FILE, content)
    elif not remote.create(METADATA_FILE, content):
        fetch_stage(store, kind, key)  # another machine was faster
        return
    _mark_shared(path, remote, attempt, _make_id(store.remote))
    _delete_attempts(remote, but=attempt)


def mark_built(folder: Path, shared_list: str) -> None:
    """Record the digest of the shared list of erased subjects that a stage was built with."""
    write_json(folder / _BUILT, {"erased": shared_list})


def drop_outdated_stage(store: Store, kind: str, key: str, shared_list: str) -> None:
    """Delete a stage that was not shared before another machine erased subjects.

    Args:
        store: the store.
        kind: of the stage.
        key: of the stage.
        shared_list: digest of the present list of erased subjects; empty if there is none.
    """
    path = store.path(kind, key)
    if store.remote is None or not shared_list or not path.is_dir():
        return
    is_shared = _read_shared(path, _folder(store.remote, kind, key))
    if not is_shared and _read_built(path) != shared_list:
        shutil.rmtree(path)


def delete_shared_stage(store: Store, kind: str, key: str) -> None:
    """Delete a stage from the object store; nothing without an object store.

    Raises:
        FlowsheetError: the object store does not answer, or refuses.
    """
    if store.remote is None:
        return
    remote = _folder(store.remote, kind, key)
    remote.delete([METADATA_FILE])
    _delete_attempts(remote, but=None)


def _download(remote: RemoteFolder, record: dict[str, Any], path: Path, store_id: str) -> None:
    attempt = record["attempt"]
    try:
        with publish(path) as folder:
            for name, sha256 in record["sha256"].items():
                remote.download(f"{attempt}/{name}", folder / name, sha256)
            metadata = {name: value for name, value in record.items() if name != "attempt"}
            text = json.dumps(metadata, indent=1, sort_keys=True)
            (folder / METADATA_FILE).write_text(text, encoding="utf-8")
            _mark_shared(folder, remote, attempt, store_id)
    except CheckFailed as error:
        raise DamagedStage(error.what, where=error.where, todo=error.todo) from error


def _read_record(remote: RemoteFolder, key: str) -> dict[str, Any] | None:
    """The content of ``stage.json`` in the object store; None if there is none.

    Of the key, the first letters are enough.
    """
    stored = remote.read(METADATA_FILE)
    if stored is None:
        return None
    try:
        record = json.loads(stored.content)
        is_valid = record["key"].startswith(key) and record["attempt"] and record["sha256"]
    except (ValueError, TypeError, KeyError, AttributeError):
        is_valid = False
    if not is_valid:
        what = "stage.json is damaged, or is of another stage"
        raise DamagedStage(what, where=remote.url, todo="delete it: the stage is built again")
    return dict(record)


def _drop_copy(path: Path, *, is_deleted: bool) -> None:
    """Delete a copy of what was erased or cleaned; what the store has lost is shared again."""
    if is_deleted:
        shutil.rmtree(path)
    else:
        (path / _SHARED).unlink()


def _read_id(remote: RemoteFolder) -> str:
    """The id of the store, which records that it is the same as before; empty if it has none."""
    stored = remote.read(_ID)
    return stored.content.decode("utf-8", "replace") if stored else ""


def _make_id(remote: RemoteFolder) -> str:
    if not (store_id := _read_id(remote)):
        remote.create(_ID, uuid.uuid4().hex.encode())
        store_id = _read_id(remote)
    return store_id


def _read_shared(path: Path, remote: RemoteFolder, field: str = "attempt") -> str:
    """The attempt that the folder is a copy of; empty if it was not shared there."""
    try:
        shared = read_json(path / _SHARED)
        return str(shared[field]) if shared["url"] == remote.url else ""
    except (OSError, ValueError, TypeError, KeyError):
        return ""


def _read_built(path: Path) -> str:
    try:
        return str(read_json(path / _BUILT)["erased"])
    except (OSError, ValueError, TypeError, KeyError):
        return ""


def _mark_shared(path: Path, remote: RemoteFolder, attempt: str, store_id: str) -> None:
    text = json.dumps({"url": remote.url, "attempt": attempt, "store": store_id})
    (path / _SHARED).write_text(text, encoding="utf-8")


def _delete_attempts(remote: RemoteFolder, but: str | None) -> None:
    """Delete files that no ``stage.json`` names: of killed or replaced uploads."""
    names = [entry.name for entry in remote.list()]
    remote.delete(n for n in names if n != METADATA_FILE and n.partition("/")[0] != but)


def _folder(remote: RemoteFolder, kind: str, key: str) -> RemoteFolder:
    return remote / kind / key[:16]
