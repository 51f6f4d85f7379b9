"""The kinds of object stores: how each is opened, and what its errors mean."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from flowsheet.errors import FlowsheetError, Unreachable, UsageError, first_line

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_OUTAGE = re.compile(
    r"error sending request|HTTP error(?!: builder)|timed? ?out|connection|"
    r"status code: (?:5(?!01)\d\d|429)|SlowDown",
    re.IGNORECASE,
)
_NO_CREDENTIALS = re.compile(r"169\.254\.\d+\.\d+|metadata\.google|Account must be specified")
"""Where the libraries look for credentials of a machine in the cloud, when there are no others."""


@dataclass(frozen=True)
class Provider:
    """One kind of object store."""

    title: str
    extra: str
    """Of the package, which installs what is needed."""
    credentials: str
    """The environment variables with the credentials, for messages."""


_S3 = Provider("Amazon S3", "s3", "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION")
_GCS = Provider("Google Cloud Storage", "gcs", "GOOGLE_APPLICATION_CREDENTIALS")
_AZURE = Provider(
    "Azure Blob Storage", "azure", "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY"
)
PROVIDERS: Mapping[str, Provider] = {
    "s3": _S3,
    "gs": _GCS,
    "abfs": _AZURE,
    "abfss": _AZURE,
    "az": _AZURE,
}
"""By scheme of their URLs."""


def open_store(scheme: str, bucket: str, prefix: str) -> ObjectStore:
    """The library's object for a folder."""
    return _open_store(scheme, bucket, prefix, _endpoint(scheme))


def explain_error(error: Exception, scheme: str, where: str) -> FlowsheetError:
    """What an error of the object store means, in words."""
    from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

    provider = PROVIDERS[scheme]
    credentials = f"set {provider.credentials}; see docs/storage.md"
    if isinstance(error, FileNotFoundError):
        what = "the bucket or the object does not exist"
        return FlowsheetError(what, where=where, todo="create the bucket, or fix the URL")
    if isinstance(error, PermissionDeniedError | UnauthenticatedError):
        what = "the object store denies access"
        return FlowsheetError(what, where=where, todo=f"{credentials}; or ask for the rights")
    if _NO_CREDENTIALS.search(str(error)):
        return UsageError(f"{provider.title} needs credentials", where=where, todo=credentials)
    if is_outage(error):
        what = f"the object store does not answer: {_reason(error)}"
        todo = "start again when it does; what is complete is used again"
        return Unreachable(what, where=where, todo=todo)
    what = f"the object store refuses: {_reason(error)}"
    return FlowsheetError(what, where=where, todo=f"fix the URL, or {credentials}")


def is_outage(error: Exception) -> bool:
    """Whether the same call may succeed later."""
    return bool(_OUTAGE.search(_reason(error))) and not _NO_CREDENTIALS.search(str(error))


def is_bucket_missing(error: Exception) -> bool:
    """Whether it is not the object that is missing, but where it would be."""
    return "NoSuchBucket" in str(error) or "ContainerNotFound" in str(error)


def _message(error: Exception) -> str:
    """The message without the details that follow it."""
    return str(error).partition("\n\nDebug source")[0]


def _reason(error: Exception) -> str:
    """The part of a message after the address and the times of the call."""
    message = first_line(ValueError(_message(error)))
    return message.rpartition(" - ")[2].strip() or message


_ENDPOINTS = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "azure": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}
"""By extra: environment variables with the address of a server of one's own."""


def _endpoint(scheme: str) -> str:
    """The address of a server of one's own; empty for the provider's."""
    names = _ENDPOINTS.get(PROVIDERS[scheme].extra, ())
    return next((os.environ[name] for name in names if os.environ.get(name)), "")


def check_installed(scheme: str) -> None:
    """Check that the library is installed.

    Raises:
        UsageError: it is not.
    """
    try:
        import obstore  # noqa: F401
    except ImportError as error:
        extra = PROVIDERS[scheme].extra
        raise UsageError(
            f"{scheme}:// needs a package that is not installed",
            where="obstore",
            todo=f"pip install 'flowsheet[{extra}]'",
        ) from error


_PUBLIC_AZURE = "core.windows.net"
_AZURE_SERVICE = re.compile(r"\b(dfs|blob)\.")
"""The part of a host's name that is ``blob`` in the addresses of requests."""
_AZURE_LOGINS = {
    "core.chinacloudapi.cn": "https://login.chinacloudapi.cn",
    "core.usgovcloudapi.net": "https://login.microsoftonline.us",
}
"""The logins of Azure's clouds beside the public one, by the ends of their hosts' names."""


def locate_azure(host: str) -> dict[str, Any]:
    """Account, cloud and login of a host such as ``ACCOUNT.dfs.core.chinacloudapi.cn``.

    >>> locate_azure("hospital.dfs.core.windows.net")
    {'account_name': 'hospital'}
    >>> locate_azure("hospital.dfs.core.usgovcloudapi.net")["endpoint"]
    'https://hospital.blob.core.usgovcloudapi.net'
    """
    account, _, service = host.partition(".")
    settings = {"account_name": account} if account else {}
    is_public = not service or service.endswith(_PUBLIC_AZURE)
    if not is_public and not _endpoint("abfs"):
        is_named = _AZURE_SERVICE.search(service)
        blobs = _AZURE_SERVICE.sub("blob.", service) if is_named else f"blob.{service}"
        settings["endpoint"] = f"https://{account}.{blobs}"
    names = ("AZURE_AUTHORITY_HOST", "AZURE_STORAGE_AUTHORITY_HOST")
    login = next((url for end, url in _AZURE_LOGINS.items() if service.endswith(end)), None)
    if login and not any(map(os.environ.get, names)):
        settings["authority_host"] = login
    return settings


@cache
def _open_store(scheme: str, bucket: str, prefix: str, endpoint: str) -> ObjectStore:
    from obstore.store import AzureStore, GCSStore, S3Store

    client: Any = {"connect_timeout": "5s", "read_timeout": "60s", "timeout": "1h"}
    retry: Any = {"max_retries": 2, "retry_timeout": timedelta(seconds=30)}
    settings: Any = {"client_options": client, "retry_config": retry, "prefix": prefix or None}
    if endpoint:
        settings["endpoint"] = endpoint
        client["allow_http"] = endpoint.startswith("http://")
    if PROVIDERS[scheme] is _GCS:
        return GCSStore(bucket, **settings)
    if PROVIDERS[scheme] is _AZURE:
        container, _, host = bucket.partition("@")
        return AzureStore(container, **locate_azure(host), **settings)
    return S3Store(bucket, **settings)
