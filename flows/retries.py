"""Retry tasks when a server does not respond, and only then: invalid records stay invalid."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, TypedDict

from prefect.client.schemas.objects import State, TaskRun
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES

from flowsheet.errors import FlowsheetError, Unreachable, UsageError, mask_secrets
from flowsheet.lifecycle.runtime.local_servers import is_responding
from flowsheet.tracking.store import TrackerUnreachable

_OUTAGE_CLASSES = {
    ("requests.exceptions", "ConnectionError"),
    ("requests.exceptions", "Timeout"),
    ("httpx", "TransportError"),
    ("sqlalchemy.exc", "OperationalError"),
    ("sqlalchemy.exc", "InterfaceError"),
    ("optuna.exceptions", "StorageInternalError"),
    ("botocore.exceptions", "ConnectionError"),
}
"""(module, name) instead of classes: flows do not import these libraries."""
_MLFLOW_OUTAGE_MESSAGES = (
    "API request to",
    "Max retries exceeded",
    "Connection refused",
    "TEMPORARILY_UNAVAILABLE",
    "failed with error code 5",
)


class RetryOptions(TypedDict):
    """Options of a task that calls servers."""

    retries: int
    retry_delay_seconds: list[float]
    retry_condition_fn: Any


def is_outage(error: BaseException | None) -> bool:
    """Whether an error, or one of its causes, is a server that did not respond."""
    return any(_is_outage(cause) for cause in _cause_chain(error))


def prefect_unreachable() -> Unreachable | None:
    """The error to raise when the Prefect server or its database does not respond; else None."""
    url = os.environ.get("PREFECT_API_URL", "")
    if is_responding(f"{url}/ready"):
        return None
    return Unreachable(
        "the Prefect server does not answer",
        where=mask_secrets(url),
        todo="check that it is running, then start again: finished stages and trials are kept",
    )


def explain_prefect_error(error: Exception) -> FlowsheetError | None:
    """An error in words for one of Prefect's client; None if the server is not its reason."""
    url = mask_secrets(os.environ.get("PREFECT_API_URL", ""))
    status = getattr(getattr(error, "response", None), "status_code", 0)
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return UsageError(
            f"the Prefect server refuses the login (HTTP {status})",
            where=url,
            todo="set PREFECT_API_AUTH_STRING to the server's user:password",
        )
    if not is_outage(error):
        return None
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return prefect_unreachable() or Unreachable(
            f"the Prefect server has answered with errors (HTTP {status})",
            where=url,
            todo="read its log, then start again: finished stages and trials are kept",
        )
    return prefect_unreachable()


def wait_for_prefect() -> None:
    """Wait for the Prefect server as long as its client would retry.

    The client itself retries only after it has been connected once.
    """
    deadline = time.monotonic() + 2 ** (PREFECT_CLIENT_MAX_RETRIES.value() + 1)
    while prefect_unreachable() and time.monotonic() < deadline:
        time.sleep(1)


def _is_outage(error: BaseException) -> bool:
    if isinstance(error, Unreachable | ConnectionError | TimeoutError):
        # Prefect's own timeouts are time limits of a task or flow, which are final
        return not type(error).__module__.startswith("prefect")
    response = getattr(error, "response", None)  # of httpx, requests and Prefect's client
    if getattr(response, "status_code", 0) >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return True
    bases = {(base.__module__, base.__name__) for base in type(error).__mro__}
    if bases & _OUTAGE_CLASSES:
        return True
    is_mlflow_error = type(error).__name__ == "MlflowException"
    return is_mlflow_error and any(text in str(error) for text in _MLFLOW_OUTAGE_MESSAGES)


def _cause_chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def should_retry(task: Any, run: TaskRun, state: State[Any]) -> bool:
    """Prefect's retry condition; not for ``TrackerUnreachable``: MLflow's client has retried it."""
    error = state.data
    return (
        isinstance(error, BaseException)
        and not isinstance(error, TrackerUnreachable)
        and is_outage(error)
    )


RETRY_ON_OUTAGE = RetryOptions(
    retries=4, retry_delay_seconds=[2, 10, 30, 60], retry_condition_fn=should_retry
)
"""For tasks that may run again, as all tasks here may: they reuse what they have finished."""
