"""A Postgres of one's own on loopback, thrown away at the end."""

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


def program(name: str) -> str:
    """Where a program of Postgres is, or a skip that says that it is not."""
    found = shutil.which(name) or next(
        map(str, sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))[::-1]), None
    )
    return found or pytest.skip(f"Postgres' {name} is not installed")


def somebody() -> dict[str, int]:
    """Who runs it: Postgres refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    try:
        user = pwd.getpwnam("postgres")
    except KeyError:
        pytest.skip("there is no user postgres, and Postgres refuses to run as root")
    return {"user": user.pw_uid, "group": user.pw_gid}


class Cluster:
    """A running server."""

    def __init__(self, folder: Path, who: dict[str, int]) -> None:
        self.folder, self.who, self.port = folder, who, find_free_port()

    def url(self, database: str, driver: str = "psycopg") -> str:
        return f"postgresql+{driver}://postgres@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        settings = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder} -c fsync=off"
        self.control("-w", "-l", str(self.folder / "log"), "-o", settings, "start")

    def stop(self, how: str = "immediate") -> None:
        """``immediate`` is what a kill does."""
        self.control("-m", how, "stop")

    def control(self, *arguments: str) -> None:
        self.run(program("pg_ctl"), "-D", str(self.folder / "data"), *arguments)

    def run(self, *command: str) -> None:
        subprocess.run(
            command,
            check=True,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **self.who,
        )

    def make(self, database: str) -> str:
        self.run(
            program("createdb"), "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", database
        )
        return self.url(database)


@contextlib.contextmanager
def postgres(*auth: str) -> Iterator[Cluster]:
    """An empty server that lets everybody on this machine in, or asks as initdb's options ``auth`` say."""
    pytest.importorskip("psycopg", reason="flowsheet[postgres] is not installed")
    who, initdb = somebody(), program("initdb")
    with tempfile.TemporaryDirectory(prefix="pg") as name:
        folder = Path(
            name
        )  # pytest's own are closed to other users, and a socket's path must be short
        if who:
            os.chown(folder, who["user"], who["group"])
        cluster = Cluster(folder, who)
        how = auth or ("--auth=trust",)
        cluster.run(initdb, "-D", str(folder / "data"), "--no-sync", *how, "--username=postgres")
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.stop()
