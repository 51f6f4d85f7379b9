"""A throw-away Postgres, as the image's would be."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


def program(name: str) -> str:
    found = shutil.which(name) or next(map(str, sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))[::-1]), None)
    return found or pytest.skip(f"Postgres' {name} is not installed")


def _as_nobody() -> dict[str, int]:
    """Postgres refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    try:
        user = pwd.getpwnam("postgres")
    except KeyError:
        pytest.skip("there is no user postgres, and Postgres refuses to run as root")
    return {"user": user.pw_uid, "group": user.pw_gid}


@pytest.fixture
def postgres() -> Iterator[dict[str, str]]:
    """The environment that reaches an empty server, whose superuser comes in by the socket alone."""
    who = _as_nobody()
    with tempfile.TemporaryDirectory(prefix="pg") as name:
        folder = Path(name)  # pytest's own are closed to other users, and a socket's path must be short
        if who:
            os.chown(folder, who["user"], who["group"])
        folder.chmod(0o755)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        pg_ctl, data = program("pg_ctl"), str(folder / "data")
        settings = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
        options = ["--auth-local=trust", "--auth-host=scram-sha-256", "--username=postgres"]
        _quietly([program("initdb"), "-D", data, "--no-sync", *options], folder, who)
        _quietly([pg_ctl, "-D", data, "-w", "-l", str(folder / "log"), "-o", settings, "start"], folder, who)
        try:
            yield {**os.environ, "PGHOST": str(folder), "PGPORT": str(port)}
        finally:
            _quietly([pg_ctl, "-D", data, "-m", "immediate", "stop"], folder, who)


def _quietly(command: list[str], folder: Path, who: dict[str, int]) -> None:
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **who)
