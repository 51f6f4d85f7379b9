"""The script that makes the databases, run in a Postgres of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "docker" / "postgres" / "databases.sh"
PASSWORDS = {"PREFECT_DB_PASSWORD": "one'; --", "MLFLOW_DB_PASSWORD": "two", "OPTUNA_DB_PASSWORD": "three"}


def program(name: str) -> str:
    found = shutil.which(name) or next(map(str, sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))[::-1]), None)
    return found or pytest.skip(f"Postgres' {name} is not installed")


def as_nobody() -> dict[str, int]:
    """Postgres refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    try:
        user = pwd.getpwnam("postgres")
    except KeyError:
        pytest.skip("there is no user postgres, and Postgres refuses to run as root")
    return {"user": user.pw_uid, "group": user.pw_gid}


@pytest.fixture
def server():
    """The environment that reaches an empty server, whose superuser comes in by the socket alone."""
    who = as_nobody()
    with tempfile.TemporaryDirectory(prefix="pg") as name:
        folder = Path(name)  # pytest's own are closed to other users, and a socket's path must be short
        if who:
            os.chown(folder, who["user"], who["group"])
        folder.chmod(0o755)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        initdb, pg_ctl = program("initdb"), program("pg_ctl")
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
        options = ["--auth-local=trust", "--auth-host=scram-sha-256", "--username=postgres"]
        subprocess.run([initdb, "-D", str(folder / "data"), "--no-sync", *options], check=True, **quiet, **who)
        settings = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
        start = [pg_ctl, "-D", str(folder / "data"), "-w", "-l", str(folder / "log"), "-o", settings, "start"]
        subprocess.run(start, check=True, **quiet, **who)
        try:
            yield {**os.environ, "PGHOST": str(folder), "PGPORT": str(port)}
        finally:
            subprocess.run([pg_ctl, "-D", str(folder / "data"), "-m", "immediate", "stop"], check=True, **quiet, **who)


def sql(server, user, database, password=None):
    host = {"PGHOST": "127.0.0.1", "PGPASSWORD": password} if password else {}
    command = [program("psql"), "-U", user, "-d", database, "-tAc", "create table t (a int); drop table t; select 1"]
    return subprocess.run(command, env={**server, **host}, capture_output=True, text=True, check=False)


@pytest.mark.server
def test_each_service_has_a_database_that_no_other_reaches(server):
    program("psql")
    subprocess.run(["bash", str(SCRIPT)], env={**server, **PASSWORDS}, check=True)
    for name, password in PASSWORDS.items():
        mine = name.removesuffix("_DB_PASSWORD").lower()
        assert sql(server, mine, mine, password).returncode == 0
        assert "authentication failed" in sql(server, mine, mine, "wrong").stderr
        for other in {"prefect", "mlflow", "optuna"} - {mine}:
            assert "permission denied" in sql(server, mine, other, password).stderr


def test_no_password_is_no_database(tmp_path):
    bare = {k: v for k, v in os.environ.items() if not k.endswith("_DB_PASSWORD")}
    done = subprocess.run(["bash", str(SCRIPT)], env=bare, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "PREFECT_DB_PASSWORD" in done.stderr
