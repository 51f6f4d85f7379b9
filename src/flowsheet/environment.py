"""The process's environment: who runs it, private files, and loopback without a proxy."""

from __future__ import annotations

import getpass
import importlib.util
import os
from urllib.parse import urlsplit

_PRIVATE_UMASK = 0o077
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_PROXY_VARIABLES = ("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY")
_HTTP_SCHEMES = ("http", "https")
_SOCKS_SCHEMES = ("socks5", "socks5h")


def user_name() -> str:
    """The name of the user who runs the process; ``unknown`` in a container without such a user."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def prepare_process() -> list[str]:
    """Make this process and its children write private files and reach loopback directly.

    Returns:
        Warnings for the user.
    """
    os.umask(_PRIVATE_UMASK)
    bypass_proxies_for_loopback()
    return drop_unusable_proxies()


def bypass_proxies_for_loopback() -> None:
    """Extend ``NO_PROXY`` by the loopback names.

    Both spellings get the same value: libraries differ in which they read first.
    """
    configured = ",".join(os.environ.get(name, "") for name in ("no_proxy", "NO_PROXY"))
    hosts = [host.strip() for host in configured.split(",") if host.strip()]
    bypassed = ",".join(dict.fromkeys([*hosts, *_LOOPBACK]))
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = bypassed


def drop_unusable_proxies() -> list[str]:
    """Remove proxies of which httpx, Prefect's HTTP client, cannot make a client.

    httpx makes a transport for every configured proxy, for hosts in ``NO_PROXY`` too; for SOCKS it
    needs the package socksio.

    Returns:
        A warning for each removed variable.
    """
    is_socks_usable = importlib.util.find_spec("socksio") is not None
    usable = (*_HTTP_SCHEMES, *(_SOCKS_SCHEMES if is_socks_usable else ()))
    warnings = []
    for name in (*_PROXY_VARIABLES, *map(str.lower, _PROXY_VARIABLES)):
        value = os.environ.get(name, "")
        scheme = urlsplit(value).scheme if "://" in value else "http"
        if value and scheme not in usable:
            del os.environ[name]
            todo = "install socksio to use it" if scheme in _SOCKS_SCHEMES else "set another one"
            warnings.append(f"{name} is ignored: a {scheme} proxy cannot be used; {todo}")
    return warnings
