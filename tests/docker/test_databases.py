"""The script that makes the databases, run in a Postgres of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "docker" / "postgres" / "databases.sh"
PASSWORDS = {
    "PREFECT_DB_PASSWORD": "one'; --",
    "MLFLOW_DB_PASSWORD": "two",
    "OPTUNA_DB_PASSWORD": "three",
}


def sql(server, user, database, password):
    command = [
        "psql",
        "-U",
        user,
        "-d",
        database,
        "-tAc",
        "create table t (a int); drop table t; select 1",
    ]
    told = {**server, "PGHOST": "127.0.0.1", "PGPASSWORD": password}
    return subprocess.run(command, env=told, capture_output=True, text=True, check=False)


@pytest.mark.server
@pytest.mark.skipif(not shutil.which("psql"), reason="psql is not installed")
def test_each_service_has_a_database_that_no_other_reaches(postgres):
    subprocess.run(["bash", str(SCRIPT)], env={**postgres, **PASSWORDS}, check=True)
    for name, password in PASSWORDS.items():
        mine = name.removesuffix("_DB_PASSWORD").lower()
        assert sql(postgres, mine, mine, password).returncode == 0
        assert "authentication failed" in sql(postgres, mine, mine, "wrong").stderr
        for other in {"prefect", "mlflow", "optuna"} - {mine}:
            assert "permission denied" in sql(postgres, mine, other, password).stderr


def test_no_password_is_no_database():
    bare = {k: v for k, v in os.environ.items() if not k.endswith("_DB_PASSWORD")}
    done = subprocess.run(
        ["bash", str(SCRIPT)], env=bare, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "PREFECT_DB_PASSWORD" in done.stderr
