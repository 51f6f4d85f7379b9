"""The script that creates the databases, run on a temporary Postgres."""

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
STATEMENTS = "create table t (a int); drop table t; select 1"


def run_sql(server, user, database, password):
    command = ["psql", "-U", user, "-d", database, "-tAc", STATEMENTS]
    environment = {**server, "PGHOST": "127.0.0.1", "PGPASSWORD": password}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, encoding="utf-8"
    )


@pytest.mark.server
@pytest.mark.skipif(not shutil.which("psql"), reason="psql is not installed")
def test_each_service_has_a_database_that_the_others_cannot_access(postgres):
    subprocess.run(["bash", str(SCRIPT)], env={**postgres, **PASSWORDS}, check=True)
    for variable, password in PASSWORDS.items():
        service = variable.removesuffix("_DB_PASSWORD").lower()
        assert run_sql(postgres, service, service, password).returncode == 0
        wrong_password = run_sql(postgres, service, service, "wrong")
        assert "authentication failed" in wrong_password.stderr
        for other in {"prefect", "mlflow", "optuna"} - {service}:
            other_database = run_sql(postgres, service, other, password)
            assert "permission denied" in other_database.stderr


def test_a_missing_password_is_an_error():
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_DB_PASSWORD")}
    result = subprocess.run(
        ["bash", str(SCRIPT)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        encoding="utf-8",
    )
    assert result.returncode != 0
    assert "PREFECT_DB_PASSWORD" in result.stderr
