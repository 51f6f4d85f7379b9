"""The manifest of a model package: sha256 of every file, so that nothing unverified is loaded.

``manifest.json`` lists ``{path: sha256}`` of all files of the package except itself. Its own sha256
is the package's digest: one value stands for all bytes of the package.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flowsheet.errors import CheckFailed
from flowsheet.state.hashing import file_digest
from flowsheet.state.json_files import read_json, write_json

MANIFEST = "manifest.json"
_TODO = "restore the files from a backup; `flowsheet rollback` goes back to the previous champion"
_MAX_NAMES = 5
"""Files that an error names, of each kind."""


@dataclass(frozen=True)
class Manifest:
    """The verified files of a model package."""

    digest: str
    """sha256 of ``manifest.json``."""
    files: Mapping[str, str]
    """{path in the package: sha256}."""

    def has(self, path: str) -> bool:
        """Whether the file belongs to the package."""
        return path in self.files


def write_manifest(folder: Path) -> str:
    """Write the manifest of the files in the folder; returns the package's digest."""
    path = folder / MANIFEST
    path.unlink(missing_ok=True)
    write_json(path, {"files": _file_digests(folder)})
    return file_digest(path)


def verify_manifest(folder: Path, digest: str | None = None) -> Manifest:
    """Check every file of a model package against its manifest.

    Args:
        folder: the model package.
        digest: the package's digest, where it is recorded outside of the package.

    Raises:
        CheckFailed: a file was changed, added or removed, or the package is another one.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise CheckFailed(
            f"the model package has no {MANIFEST}, so its files cannot be verified",
            where=str(folder),
            todo=_TODO,
        )
    manifest = Manifest(file_digest(path), _read_files(path))
    if digest is not None and manifest.digest != digest:
        raise CheckFailed(
            f"the model package is not the one that was registered: {MANIFEST} has the sha256 "
            f"{manifest.digest[:12]}..., registered is {digest[:12]}...",
            where=str(folder),
            todo=_TODO,
        )
    if changes := _describe_changes(manifest.files, _file_digests(folder)):
        raise CheckFailed(
            f"the model package was changed after training: {changes}",
            where=str(folder),
            todo=_TODO,
        )
    return manifest


def _read_files(path: Path) -> dict[str, str]:
    try:
        files = read_json(path)["files"]
        return {str(name): str(sha256) for name, sha256 in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckFailed(f"{MANIFEST} cannot be read", where=str(path), todo=_TODO) from error


def _file_digests(folder: Path) -> dict[str, str]:
    """{path: sha256} of the files in the folder and its subfolders, without the manifest.

    A symbolic link is listed without being followed: what it points at may change.
    """
    digests = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            digests[name] = "symbolic link"
        elif path.is_file() and name != MANIFEST:
            digests[name] = file_digest(path)
    return digests


def _describe_changes(expected: Mapping[str, str], actual: Mapping[str, str]) -> str:
    common = expected.keys() & actual.keys()
    changes = {
        "changed": [name for name in common if expected[name] != actual[name]],
        "missing": expected.keys() - actual.keys(),
        "added": actual.keys() - expected.keys(),
    }
    texts = []
    for change, names in changes.items():
        shown = sorted(names)[:_MAX_NAMES]
        more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
        if names:
            texts.append(f"{change}: {', '.join(shown)}{more}")
    return "; ".join(texts)
