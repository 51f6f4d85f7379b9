"""The MLflow store: a configured server, or an SQLite file under ``FLOWSHEET_HOME``."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from flowsheet.errors import FlowsheetError, Unreachable, mask_secrets
from flowsheet.progress import report
from flowsheet.state.home import home
from flowsheet.state.locks import exclusive_lock
from flowsheet.state.sqlite_files import find_damage
from flowsheet.tracking.relocation import relocate_artifacts
from flowsheet.tracking.schema_migration import migrate_database

if TYPE_CHECKING:
    from mlflow import MlflowClient

MLFLOW_DEFAULTS = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "6",  # after 0, 4, 8, ... 64 s: two minutes in total
    "GIT_PYTHON_REFRESH": "quiet",
}
"""Environment variables that MLflow reads when it is imported; the user's own values are kept."""

ATTEMPTS = 8
"""Attempts of a call while another process has locked the SQLite file. MLflow itself waits 20 s in
each of them."""

_RESTORE_DATABASE = "restore the file from a backup (extracts and trained models are in the store)"
_DAMAGE = re.compile(r"database disk image is malformed|file is not a database|no such table")
_NO_ANSWER = re.compile(
    r"API request to (endpoint )?\S+ failed with ((timeout )?exception|error code 5\d\d)"
)
_SERVER_ERROR = 500


class TrackerUnreachable(Unreachable):
    """The MLflow server does not answer, after MLflow's own retries."""


def tracking_uri() -> str:
    """``$MLFLOW_TRACKING_URI``, by default the SQLite file under ``FLOWSHEET_HOME``.

    User and password in a server's URL move to MLflow's variables for them, because its messages
    contain the URL.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if uri and uri.startswith("http") and "@" in uri:
        parts = urlsplit(uri)
        os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(parts.username or "")
        os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(parts.password or "")
        host = parts.netloc.rpartition("@")[2]
        uri = parts._replace(netloc=host).geturl()
        os.environ["MLFLOW_TRACKING_URI"] = uri
    return uri or f"sqlite:///{_folder() / 'mlflow.db'}"


def artifact_root() -> str:
    """URI of the artifacts' folder beside the SQLite file; a server has its own."""
    return (_folder() / "artifacts").as_uri()


def is_embedded() -> bool:
    """Whether the store is an SQLite file, without a server."""
    return tracking_uri().startswith("sqlite:")


def is_empty() -> bool:
    """Whether nothing is recorded yet; does not create a store.

    Raises:
        FlowsheetError: the database is gone, but the artifacts of its runs are there.
    """
    if os.environ.get("MLFLOW_TRACKING_URI"):
        return False
    database = _folder() / "mlflow.db"
    if database.is_file() and database.stat().st_size:
        return False
    artifacts = _folder() / "artifacts"
    if artifacts.is_dir() and any(artifacts.iterdir()):
        raise FlowsheetError(
            "the tracking database is missing or empty, but the artifacts of its runs are there",
            where=str(database),
            todo=f"{_RESTORE_DATABASE}, or move {artifacts} away to begin a new one",
        )
    return not database.exists()


def prepare_store() -> None:
    """Check and migrate the SQLite file before it is used; lead its locations to this folder.

    Raises:
        FlowsheetError: the file is damaged or lost, or a newer MLflow wrote it.
    """
    if os.environ.get("MLFLOW_TRACKING_URI"):
        return
    with store_lock():
        database = _folder() / "mlflow.db"
        if is_empty() or not database.stat().st_size:
            return
        if damage := find_damage(database):
            raise _damaged(damage)
        migrate_database(database)
        relocate_artifacts(database, artifact_root())


def store_lock() -> contextlib.AbstractContextManager[Any]:
    """A lock between processes of this machine, for looking something up and then creating it."""
    return exclusive_lock(_folder() / ".lock")


def connect() -> RetryingClient:
    """A client of the store, which is created if necessary.

    The first connection to an SQLite file creates its tables in about 3 s, under a lock: two
    processes at once would fail.
    """
    for name, value in MLFLOW_DEFAULTS.items():
        os.environ.setdefault(name, value)
    return _connect(tracking_uri())


@cache
def _connect(uri: str) -> RetryingClient:
    for name in ("alembic", "mlflow.store.db.utils", "mlflow.tracking", "mlflow.pyfunc"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("urllib3.connectionpool").addHandler(_RetryNotice())
    prepare_store()
    with store_lock():
        from mlflow import MlflowClient

        registry_uri = os.environ.get("MLFLOW_REGISTRY_URI") or uri
        with _old_schema_in_words(uri):
            client = RetryingClient(MlflowClient(tracking_uri=uri, registry_uri=registry_uri))
            client.search_experiments(max_results=1)
        return client


@contextlib.contextmanager
def _old_schema_in_words(uri: str) -> Iterator[None]:
    """Explain MLflow's refusal of a database that is configured by its address."""
    try:
        yield
    except Exception as error:
        if "out-of-date database schema" not in str(error):
            raise
        raise FlowsheetError(
            "another release of MLflow wrote the tracking database",
            where=mask_secrets(uri),
            todo="make a copy of it, then run `mlflow db upgrade` with its address; a newer one is "
            "read only by the release that wrote it",
        ) from error


@contextlib.contextmanager
def as_default() -> Iterator[None]:
    """Make the store MLflow's default within the block.

    MLflow's registry looks packages up in the default store, whatever store the client has.
    """
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
    """Ignore the error that the created object exists.

    Another machine may have created it, or a request that was repeated after a server's restart.
    """
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


class _RetryNotice(logging.Handler):
    """Prints that a server does not answer; MLflow retries silently."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno == logging.WARNING and str(record.msg).startswith("Retrying"):
            report("no answer; trying again", "mlflow")


class RetryingClient:
    """An ``MlflowClient`` that repeats calls while another process has locked the SQLite file.

    A call that fails because of the lock has changed nothing, so it can be repeated. For a server,
    MLflow has its own retries; after these a call raises :class:`TrackerUnreachable`.
    """

    def __init__(self, client: MlflowClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)

        def call_with_retries(*args: Any, **kwargs: Any) -> Any:
            for attempt in range(ATTEMPTS):
                try:
                    return method(*args, **kwargs)
                except Exception as error:
                    if _is_outage(error):
                        raise _unreachable() from error
                    damage = _DAMAGE.search(str(error))
                    if damage and is_embedded():
                        raise _damaged(damage[0]) from error
                    if "database is locked" not in str(error) or attempt == ATTEMPTS - 1:
                        raise
                    time.sleep(random.uniform(0.05, 0.1) * 2**attempt)
            raise AssertionError("the last attempt returns or raises")

        return call_with_retries


def _is_outage(error: Exception) -> bool:
    """Whether a server does not answer, or only with server errors; MLflow has no error class."""
    response = getattr(error, "response", None)  # of requests, for artifacts
    if getattr(response, "status_code", 0) >= _SERVER_ERROR:
        return True
    return type(error).__name__ == "MlflowException" and _NO_ANSWER.match(str(error)) is not None


def _unreachable() -> TrackerUnreachable:
    return TrackerUnreachable(
        "the MLflow server does not answer",
        where=tracking_uri(),
        todo="check that it runs, then start again: finished steps are kept",
    )


def _damaged(damage: str) -> FlowsheetError:
    return FlowsheetError(
        f"the tracking database is damaged: {damage}",
        where=tracking_uri().removeprefix("sqlite:///"),
        todo=f"{_RESTORE_DATABASE}, or move it away together with the folder artifacts beside it "
        "to begin a new one",
    )


def _folder() -> Path:
    folder = home() / "mlflow"
    folder.mkdir(exist_ok=True)
    return folder
