"""What a location is: a local path, or a folder in an object store such as ``s3://bucket/name``.

Every door through which a path comes in, such as an option, a setting or an environment variable,
uses one of the two functions below. No other module looks at the text of a location.
"""

from __future__ import annotations

import re
from pathlib import Path

from flowsheet.errors import UsageError, did_you_mean, mask_secrets
from flowsheet.state.object_store import RemoteFolder
from flowsheet.state.storage_providers import PROVIDERS

Location = Path | RemoteFolder
"""A local file or folder, or a folder in an object store."""

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+):/{1,2}(?P<rest>.*)", re.DOTALL)
"""Also with a single slash, which is what ``Path`` gives for two."""
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_ACCOUNT = re.compile(r"[a-z0-9][a-z0-9-]*(\.[a-z0-9.-]+)?")


def parse_location(text: str | Path) -> Location:
    """The location that a text means.

    >>> parse_location("extracts/ward")
    PosixPath('extracts/ward')
    >>> parse_location("s3://hospital/ward/").url
    's3://hospital/ward'

    Raises:
        UsageError: it is a URL, but not one of an object store.
    """
    match = _URL.fullmatch(str(text))
    if not match:
        return Path(text)
    scheme = match["scheme"].lower()
    if scheme not in PROVIDERS:
        raise UsageError(
            f"{scheme}:// is neither a local path nor an object store",
            where=mask_secrets(str(text)),
            todo=did_you_mean(scheme, PROVIDERS)
            if scheme != "file"
            else "write the path without file://",
        )
    authority, _, path = match["rest"].partition("/")
    _check_authority(scheme, authority)
    if "?" in path or "#" in path:
        raise UsageError(
            "the URL has a ? or #, as one with a signature in it",
            where=f"{scheme}://{authority}/...",
            todo="write the names of the folders only; credentials come from environment "
            "variables only",
        )
    names = path.removesuffix("/")
    if any(part in ("", ".", "..") for part in names.split("/")) and names:
        raise UsageError(
            "the URL has an empty part, a dot or two dots between its slashes",
            where=f"{scheme}://{match['rest']}",
            todo="write the names of the folders only",
        )
    return RemoteFolder(scheme, authority, names)


def absolute_location(location: Location) -> Location:
    """The same place for a process with another working folder."""
    return location.absolute() if isinstance(location, Path) else location


def local_path(
    text: str | Path,
    name: str,
    todo: str = "name a local file or folder; docs/storage.md lists what object stores can hold",
) -> Path:
    """The local path that a text means.

    Args:
        text: the path.
        name: the option or setting that it comes from, for the message.
        todo: what to do about a URL.

    Raises:
        UsageError: it is a URL.
    """
    if _URL.fullmatch(str(text)):
        raise UsageError(
            f"{name} is a URL, but has to be a local path",
            where=mask_secrets(str(text)),
            todo=todo,
        )
    return Path(text)


def _check_authority(scheme: str, authority: str) -> None:
    """Refuse URLs without a bucket, and those with credentials in them."""
    bucket, at, account = authority.partition("@")
    is_azure = PROVIDERS[scheme].extra == "azure"
    if _BUCKET.fullmatch(bucket) and (not at or (is_azure and _ACCOUNT.fullmatch(account))):
        return
    form = f"{scheme}://CONTAINER@ACCOUNT/NAME" if is_azure else f"{scheme}://BUCKET/NAME"
    raise UsageError(
        "the URL does not name a bucket" if not bucket else "the URL's bucket is not a valid name",
        where=f"{scheme}://...",
        todo=f"write {form}; credentials come from environment variables only",
    )
