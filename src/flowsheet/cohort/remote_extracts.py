"""Extracts in object stores: written so that none is ever half there, read by a verified copy.

The layout is that of a local extract. The manifest, which has the sha256 of the tables, is removed
before an older extract is replaced, and written last.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from flowsheet.errors import CheckFailed, FlowsheetError
from flowsheet.progress import report
from flowsheet.state.erasures import use_records
from flowsheet.state.folder_id import read_folder_id
from flowsheet.state.hashing import digest
from flowsheet.state.home import home
from flowsheet.state.leases import hold_lease
from flowsheet.state.locations import Location, parse_location
from flowsheet.state.object_store import RemoteFolder
from flowsheet.state.publish import publish
from flowsheet.state.store import Store

MANIFEST = "manifest.json"
QUARANTINE_FILE, ORACLE_FILE = "quarantine.parquet", "oracle/oracle.parquet"
DIGESTS_FILE = "stay_digests.parquet"
_TABLES = ("stays.parquet", "events.parquet", "treatments.parquet", "episodes.parquet")
_LEASE = ".lease"
_OPTIONAL = (QUARANTINE_FILE, ORACLE_FILE, DIGESTS_FILE)
_KIND = "downloaded"
"""Kind of the store's folders with copies of remote extracts."""


def local_extract(location: Location) -> Path:
    """The folder of an extract; of one in an object store, the folder of a copy.

    The copy is in the store, as long as the manifest is the same. Every file was compared with the
    manifest's sha256 when it was copied.

    Raises:
        CheckFailed: there is no extract in the object store, or its files are not as the manifest
            requires.
        FlowsheetError: the object store does not answer, or refuses.
    """
    location = parse_location(location) if isinstance(location, Path) else location
    if isinstance(location, Path):
        return location
    content = _read_manifest(location)
    store = Store.open()
    key = digest([location.url, content.decode()])
    folder = store.path(_KIND, key)
    with use_records(), store.local_lock(_KIND, key):
        if not folder.is_dir():
            with publish(folder) as part:
                _download(location, content, part)
    return folder


def download_extract(location: RemoteFolder, folder: Path) -> None:
    """Copy an extract from an object store to an empty folder, outside the store.

    Raises:
        CheckFailed, FlowsheetError: as :func:`local_extract`.
    """
    _download(location, _read_manifest(location), folder)


def check_free(target: RemoteFolder, *, force: bool) -> None:
    """Check that there is nothing in the folder but, with ``force``, an older extract.

    What an interrupted upload of an extract left may be written over.

    Raises:
        FlowsheetError: there are other objects, or an extract without ``force``.
    """
    names = {entry.name for entry in target.list()}
    if others := sorted(names - {MANIFEST, _LEASE, *_TABLES, *_OPTIONAL}):
        what = f"there are already objects other than an extract, such as {others[0]}"
        raise FlowsheetError(what, where=target.url, todo="choose a new folder")
    if MANIFEST in names and not force:
        raise FlowsheetError(
            "there is already an extract",
            where=target.url,
            todo="choose a new folder, or replace what is there with --force",
        )


def upload_extract(folder: Path, target: RemoteFolder) -> None:
    """Copy a complete extract to an object store, in place of an older one.

    Raises:
        FlowsheetError: the object store does not answer, or refuses; then there is no extract.
    """
    names = [*_TABLES, *(name for name in _OPTIONAL if (folder / name).is_file())]
    with _excluding_other_uploads(target):
        target.delete([MANIFEST])
        target.delete(set(_OPTIONAL) - {*names})
        for name in names:
            target.upload(folder / name, name)
        target.write(MANIFEST, (folder / MANIFEST).read_bytes())


@contextlib.contextmanager
def _excluding_other_uploads(target: RemoteFolder) -> Iterator[None]:
    def on_wait() -> None:
        report(f"waiting: another process writes an extract to {target}")

    with (
        Store.open().local_lock("upload", digest(target.url), on_wait),
        hold_lease(target, _LEASE, read_folder_id(home()), on_wait),
    ):
        yield


def _download(location: RemoteFolder, manifest: bytes, folder: Path) -> None:
    for name, sha256 in _read_digests(location, manifest).items():
        location.download(name, folder / name, sha256)
    (folder / MANIFEST).write_bytes(manifest)


def _read_manifest(location: RemoteFolder) -> bytes:
    manifest = location.read(MANIFEST)
    if manifest is not None:
        return manifest.content
    names = {entry.name for entry in location.list()}
    if names & set(_TABLES):
        raise CheckFailed(
            "there are tables but no manifest.json: the upload of an extract was interrupted, "
            "or another program wrote them, and there is no list of what belongs to them",
            where=location.url,
            todo="upload it again with `flowsheet ingest ... --out`; tables of your own are read "
            "from a local folder",
        )
    raise CheckFailed(
        "there is no extract here",
        where=location.url,
        todo="name a folder that `flowsheet ingest ... --out` wrote",
    )


def _read_digests(location: RemoteFolder, content: bytes) -> dict[str, str]:
    """The sha256 of each file, by name, from the manifest."""
    try:
        manifest: Mapping[str, dict[str, dict[str, str]]] = json.loads(content)
        digests = {f"{table}.parquet": e["sha256"] for table, e in manifest["tables"].items()}
        further = {str(name): str(sha256) for name, sha256 in manifest.get("files", {}).items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckFailed(
            "the manifest is damaged",
            where=f"{location.url}/{MANIFEST}",
            todo="create it again with `flowsheet ingest`",
        ) from error
    known = digests | further
    return {name: known[name] for name in (*_TABLES, *_OPTIONAL) if name in known}
