"""``flowsheet serve`` and ``ui``: servers on this machine."""

from __future__ import annotations

import signal
import subprocess
import threading
from typing import Any

import click

from flowsheet.cli import options

_LOCALHOST = "127.0.0.1"
_MLFLOW_EXPERIMENTS = "/#/experiments?workflowType=machine_learning"
"""Without the parameter MLflow opens its pages for language models."""

_LIMIT_OPTIONS = {
    "max_body_bytes": "body_bytes",
    "max_rows": "rows",
    "max_stays": "stays",
    "max_steps": "steps",
}
"""{option of ``serve``: field of ``Limits``}."""


@click.command()
@click.argument("model", metavar="NAME[@ALIAS]")
@click.option("--host", default=_LOCALHOST, show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True)
@click.option(
    "--allowed-host",
    "allowed_hosts",
    multiple=True,
    metavar="NAME",
    help="Further name of the server that clients may use; can be repeated.",
)
@click.option(
    "--token-file",
    metavar="FILE",
    help="Answer only clients with a token: one name:token a line, mode 0600.",
)
@click.option(
    "--no-auth", is_flag=True, help="Listen beyond loopback without tokens, behind a proxy."
)
@click.option("--certfile", metavar="FILE", help="TLS certificate and its chain, PEM.")
@click.option("--keyfile", metavar="FILE", help="Private key of the certificate, PEM.")
@click.option(
    "--shadow", metavar="ALIAS", help="Shadow-score the same requests with this alias's version."
)
@click.option(
    "--keep-answers",
    metavar="DIR",
    type=options.LOCAL_PATH,
    help="Keep risks and alerts with their stay ids as Parquet, for `flowsheet outcomes`.",
)
@click.option("--keep-subjects", is_flag=True, help="Keep the subject ids that are sent, too.")
@click.option(
    "--poll-seconds", type=float, help="How often to check whether the alias moved.  [default: 10]"
)
@click.option("--max-body-bytes", type=int, help="Reject larger requests.  [default: 8000000]")
@click.option("--max-rows", type=int, help="Reject requests with more rows.  [default: 100000]")
@click.option("--max-stays", type=int, help="Reject requests with more stays.  [default: 1000]")
@click.option("--max-steps", type=int, help="Reject requests with more steps.  [default: 100000]")
def serve(model: str, **given: Any) -> None:
    """Serve the registered model NAME over HTTP: raw records in, a risk for every step out.

    The default ALIAS is champion; when it moves, the server follows. The page /docs describes
    requests.

    \b
    flowsheet serve demo-lstm
    flowsheet serve demo-lstm@champion --shadow challenger --port 8080
    flowsheet serve demo-lstm --keep-answers answers
    """
    from flowsheet.config import validate_config
    from flowsheet.lifecycle.runtime.tuning import use_one_polars_thread
    from flowsheet.serving.settings import ServeConfig

    name, _, alias = model.partition("@")
    settings = {option: value for option, value in given.items() if value is not None}
    limits = {
        field: settings.pop(option)
        for option, field in _LIMIT_OPTIONS.items()
        if option in settings
    }
    settings |= {"name": name, "limits": limits}
    if alias:
        settings["alias"] = alias
    config = validate_config(ServeConfig, settings, "flowsheet serve")

    use_one_polars_thread()  # before polars is imported
    from flowsheet.lifecycle.runtime.processes import interruptible

    with interruptible():  # until the model is loaded; then the server has handlers of its own
        from flowsheet.serving import server

        server.serve(config)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C does not disturb the exit


@click.command()
@click.option("--mlflow-port", type=click.IntRange(1, 65535), default=5000, show_default=True)
@click.option("--prefect-port", type=click.IntRange(1, 65535), default=4200, show_default=True)
def ui(mlflow_port: int, prefect_port: int) -> None:
    """Show the MLflow and Prefect pages on 127.0.0.1 until Ctrl-C."""
    from flowsheet.lifecycle.runtime.local_servers import (
        generated_login,
        prefect_api,
        stop_server,
        use_quiet_settings,
    )
    from flowsheet.state.home import home

    use_quiet_settings()
    home()
    stopped = threading.Event()
    for kind in (signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, lambda *_: stopped.set())
    with prefect_api(prefect_port) as prefect_url:
        mlflow_url, process = _start_mlflow(mlflow_port)
        try:
            _print_url("MLflow", mlflow_url.rstrip("/") + _MLFLOW_EXPERIMENTS)
            _print_url("Prefect", prefect_url.removesuffix("/api"))
            if login := generated_login():
                click.echo(f"         login: {login}")
            click.echo("Ctrl-C to stop")
            stopped.wait()
        finally:
            if process is not None:
                stop_server(process.pid)


def _start_mlflow(port: int) -> tuple[str, subprocess.Popen[bytes] | None]:
    """URL and process of the MLflow pages; no process where a remote server is configured.

    Raises:
        UsageError: the port is taken.
    """
    from flowsheet.lifecycle.runtime.local_servers import (
        check_port_is_free,
        start_server,
        wait_for_server,
    )
    from flowsheet.state.home import home
    from flowsheet.tracking.store import artifact_root, prepare_store, tracking_uri

    store = tracking_uri()
    if store.startswith("http"):
        return store, None
    check_port_is_free(port)
    prepare_store()
    folder = home() / "mlflow"
    folder.mkdir(exist_ok=True)
    log = folder / "server.log"
    arguments = [
        "-m",
        "mlflow",
        "server",
        "--host",
        _LOCALHOST,
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    arguments += ["--default-artifact-root", artifact_root(), "--app-name", "flowsheet"]
    # The URI may hold a password, which every user of the machine could read in the arguments.
    process = start_server(arguments, log, {"MLFLOW_BACKEND_STORE_URI": store})
    url = f"http://{_LOCALHOST}:{port}"
    wait_for_server(f"{url}/health", process, log)
    return url, process


def _print_url(page: str, url: str) -> None:
    from flowsheet.errors import mask_secrets

    click.echo(f"{page:8} {mask_secrets(url)}")
