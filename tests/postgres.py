"""A temporary Postgres server on loopback."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowsheet.lifecycle.runtime.local_servers import find_free_port


def find_program(name: str) -> str:
    """The path of one of Postgres' programs; skips the test if it is not installed."""
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    path = shutil.which(name) or (str(installed[-1]) if installed else None)
    return path or pytest.skip(f"Postgres' {name} is not installed")


def unprivileged_user() -> dict[str, int]:
    """Arguments of ``subprocess.run``: Postgres refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    try:
        user = pwd.getpwnam("postgres")
    except KeyError:
        pytest.skip("there is no user postgres, and Postgres refuses to run as root")
    return {"user": user.pw_uid, "group": user.pw_gid}


class Cluster:
    """A running server."""

    def __init__(self, folder: Path, user: dict[str, int]) -> None:
        self.folder, self.user, self.port = folder, user, find_free_port()

    def url(self, database: str, driver: str = "psycopg") -> str:
        return f"postgresql+{driver}://postgres@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": self.folder,
            "fsync": "off",
        }
        options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        log = str(self.folder / "log")
        self.control("-w", "-l", log, "-o", f"-p {self.port} {options}", "start")

    def stop(self, mode: str = "immediate") -> None:
        """``immediate`` stops like a kill."""
        self.control("-m", mode, "stop")

    def control(self, *arguments: str) -> None:
        self.run(find_program("pg_ctl"), "-D", str(self.folder / "data"), *arguments)

    def run(self, *command: str) -> None:
        subprocess.run(
            command,
            check=True,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **self.user,
        )

    def create_database(self, name: str) -> str:
        """The URL of the new database."""
        createdb = find_program("createdb")
        self.run(createdb, "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", name)
        return self.url(name)


@contextlib.contextmanager
def postgres(*auth: str) -> Iterator[Cluster]:
    """An empty server; it trusts all local users, or takes initdb's options ``auth``."""
    pytest.importorskip("psycopg", reason="flowsheet[postgres] is not installed")
    user, initdb = unprivileged_user(), find_program("initdb")
    # pytest's temporary folders are closed to other users, and the path of a socket must be short.
    with tempfile.TemporaryDirectory(prefix="pg") as name:
        folder = Path(name)
        if user:
            os.chown(folder, user["user"], user["group"])
        cluster = Cluster(folder, user)
        options = auth or ("--auth=trust",)
        cluster.run(
            initdb, "-D", str(folder / "data"), "--no-sync", *options, "--username=postgres"
        )
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.stop()
