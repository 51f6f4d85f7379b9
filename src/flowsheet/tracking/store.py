"""Where runs are recorded: the configured MLflow server, or a SQLite file under ``FLOWSHEET_HOME``."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import re
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from flowsheet.errors import Unreachable
from flowsheet.state.home import home
from flowsheet.state.locks import exclusive_lock

if TYPE_CHECKING:
    from mlflow import MlflowClient

MLFLOW_DEFAULTS = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "6",  # after 0, 4, 8, ... 64 s: two minutes in all
    "GIT_PYTHON_REFRESH": "quiet",
}
"""MLflow reads these when it is imported; what the user has set stays."""

ATTEMPTS = 8
"""Tries of a call while another process holds the SQLite file, beyond the 20 s that MLflow itself waits."""

_NO_ANSWER = re.compile(r"API request to \S+ failed with (timeout )?exception")


class TrackerUnreachable(Unreachable):
    """The MLflow server does not answer, and has been waited for already."""


def tracking_uri() -> str:
    """``$MLFLOW_TRACKING_URI``, by default the SQLite file under ``FLOWSHEET_HOME``.

    User and password of a server's URL move to the variables that MLflow has for them: its messages
    quote the URL.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if uri and uri.startswith("http") and "@" in uri:
        parts = urlsplit(uri)
        os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(parts.username or "")
        os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(parts.password or "")
        uri = os.environ["MLFLOW_TRACKING_URI"] = parts._replace(
            netloc=parts.netloc.rpartition("@")[2]
        ).geturl()
    return uri or f"sqlite:///{_folder() / 'mlflow.db'}"


def artifact_root() -> str:
    """Where the embedded store puts artifacts; a server decides for itself."""
    return (_folder() / "artifacts").as_uri()


def is_embedded() -> bool:
    """Whether the store is an SQLite file, without a server that would look after artifacts."""
    return tracking_uri().startswith("sqlite:")


def is_empty() -> bool:
    """Whether nothing was ever recorded, told without making a store."""
    return not os.environ.get("MLFLOW_TRACKING_URI") and not (_folder() / "mlflow.db").exists()


def store_lock() -> Any:
    """A lock against other processes of this machine, for what must be looked up and then made."""
    return exclusive_lock(_folder() / ".lock")


def connect() -> RetryingClient:
    """A client of the store, which is made when it is not there.

    The first connection to an SQLite file makes its tables, about 3 s; two processes would trip
    over each other.
    """
    for name, value in MLFLOW_DEFAULTS.items():
        os.environ.setdefault(name, value)
    return _connect(tracking_uri())


@cache
def _connect(uri: str) -> RetryingClient:
    for name in ("alembic", "mlflow.store.db.utils", "mlflow.tracking", "mlflow.pyfunc"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("urllib3.connectionpool").addHandler(_Waiting())
    with store_lock():
        from mlflow import MlflowClient

        client = MlflowClient(
            tracking_uri=uri, registry_uri=os.environ.get("MLFLOW_REGISTRY_URI") or uri
        )
        patient = RetryingClient(client)
        patient.search_experiments(max_results=1)
        return patient


@contextlib.contextmanager
def as_default() -> Iterator[None]:
    """Make the store MLflow's default for a while: its registry looks a package up there, whoever the client is."""
    before = os.environ.get("MLFLOW_TRACKING_URI")
    os.environ["MLFLOW_TRACKING_URI"] = tracking_uri()
    try:
        yield
    finally:
        del os.environ["MLFLOW_TRACKING_URI"]
        if before is not None:
            os.environ["MLFLOW_TRACKING_URI"] = before


@contextlib.contextmanager
def ignore_already_exists() -> Iterator[None]:
    """Make what may be there by now: another machine made it, or a server that was killed before it answered."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


class _Waiting(logging.Handler):
    """Says that a server is waited for, which MLflow keeps to itself."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno == logging.WARNING and str(record.msg).startswith("Retrying"):
            print("[mlflow] no answer; trying again", file=sys.stderr, flush=True)


class RetryingClient:
    """An ``MlflowClient`` whose calls are tried again while another process holds the SQLite file.

    A call that met a locked file has changed nothing, so that it may be repeated. A server that
    does not answer is waited for by MLflow itself; after that a call raises
    :class:`TrackerUnreachable`.
    """

    def __init__(self, client: MlflowClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)

        def patient(*args: Any, **kwargs: Any) -> Any:
            for attempt in range(ATTEMPTS):
                try:
                    return method(*args, **kwargs)
                except Exception as error:
                    if _is_outage(error):
                        raise _unreachable() from error
                    if "database is locked" not in str(error) or attempt == ATTEMPTS - 1:
                        raise
                    time.sleep(random.uniform(0.05, 0.1) * 2**attempt)
            raise AssertionError("unreachable")

        return patient


def _is_outage(error: Exception) -> bool:
    """MLflow has no kind of its own for a server that is gone, or that answers with nothing but errors of its own."""
    return type(error).__name__ == "MlflowException" and _NO_ANSWER.match(str(error)) is not None


def _unreachable() -> TrackerUnreachable:
    return TrackerUnreachable(
        "the MLflow server does not answer",
        where=tracking_uri(),
        todo="see that it runs, then start again: what is finished is kept",
    )


def _folder() -> Path:
    folder = home() / "mlflow"
    folder.mkdir(exist_ok=True)
    return folder
