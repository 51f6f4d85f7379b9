"""``flowsheet worker``: a Prefect worker with the settings and limits that flow runs need."""

from __future__ import annotations

import os
import sys

import click

from flowsheet.cli import options


@click.command()
@click.argument("pool", default="cpu")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    help="Flow runs at a time. Default: one a core and 1.5 GB of memory, at least 2.",
)
@click.option("--healthcheck", is_flag=True, help="Answer health checks on port 8080.")
@options.log_level
def worker(pool: str, limit: int | None, *, healthcheck: bool) -> None:
    """Execute flow runs of the work pool POOL (default: cpu) until it is stopped.

    \b
    It reads PREFECT_API_URL and PREFECT_API_AUTH_STRING (of the Prefect server),
    MLFLOW_TRACKING_URI, FLOWSHEET_HOME (the folder that all machines share) and
    FLOWSHEET_OPTUNA_URL (lets several workers tune one model together).
    """
    from flowsheet.errors import UsageError
    from flowsheet.lifecycle.runtime.local_servers import use_quiet_settings
    from flowsheet.lifecycle.runtime.resources import default_worker_limit
    from flowsheet.progress import report

    if not os.environ.get("PREFECT_API_URL"):
        raise UsageError(
            "a worker needs the address of a Prefect server",
            where="PREFECT_API_URL is not set",
            todo="set it, as in PREFECT_API_URL=http://127.0.0.1:4200/api",
        )
    use_quiet_settings()
    runs = limit or default_worker_limit()
    report(f"up to {runs} flow runs at a time", f"worker of pool {pool}")
    command = ["-m", "prefect", "worker", "start", "--pool", pool, "--type", "process"]
    command += ["--limit", str(runs)]
    if healthcheck:
        command.append("--with-healthcheck")
    os.execv(sys.executable, [sys.executable, *command])
