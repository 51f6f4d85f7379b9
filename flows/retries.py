"""What is tried again: calls to a server that did not answer. Wrong records stay wrong, however often one asks."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any, TypedDict

from prefect.client.schemas.objects import State, TaskRun
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES

from flowsheet.errors import Unreachable, mask_secrets
from flowsheet.lifecycle.runtime.local_servers import is_responding
from flowsheet.tracking.store import TrackerUnreachable

_KINDS = {
    ("requests.exceptions", "ConnectionError"),
    ("requests.exceptions", "Timeout"),
    ("httpx", "TransportError"),
    ("sqlalchemy.exc", "OperationalError"),
    ("sqlalchemy.exc", "InterfaceError"),
    ("optuna.exceptions", "StorageInternalError"),
    ("botocore.exceptions", "ConnectionError"),
}
"""By name, because each of these libraries is known to one layer only."""
_MLFLOW_SAYS = (
    "API request to",
    "Max retries exceeded",
    "Connection refused",
    "TEMPORARILY_UNAVAILABLE",
)


class Retries(TypedDict):
    """Options of a task that talks to servers."""

    retries: int
    retry_delay_seconds: list[float]
    retry_condition_fn: Any


def is_outage(error: BaseException | None) -> bool:
    """Whether an error, or what it was caused by, is a server that did not answer."""
    return any(_is_outage(each) for each in _chain(error))


def prefect_unreachable() -> Unreachable | None:
    """What to tell of a Prefect server that does not answer; None if it does."""
    url = os.environ.get("PREFECT_API_URL", "")
    if is_responding(f"{url}/health"):
        return None
    return Unreachable(
        "the Prefect server does not answer",
        where=mask_secrets(url),
        todo="see that it runs, then start again: what is finished is kept",
    )


def wait_for_prefect() -> None:
    """Wait for the Prefect server as long as its clients do; one that has never reached it would not wait at all."""
    deadline = time.monotonic() + 2 ** (PREFECT_CLIENT_MAX_RETRIES.value() + 1)
    while prefect_unreachable() and time.monotonic() < deadline:
        time.sleep(1)


def _is_outage(error: BaseException) -> bool:
    if isinstance(error, Unreachable | ConnectionError | TimeoutError):
        return not type(error).__module__.startswith("prefect")  # a time limit of our own is final
    if any((kind.__module__, kind.__name__) in _KINDS for kind in type(error).__mro__):
        return True
    return type(error).__name__ == "MlflowException" and any(
        words in str(error) for words in _MLFLOW_SAYS
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def try_again(task: Any, run: TaskRun, state: State[Any]) -> bool:
    """Prefect's question after a failed task run. MLflow's client has waited for its server already."""
    error = state.data
    return (
        isinstance(error, BaseException)
        and not isinstance(error, TrackerUnreachable)
        and is_outage(error)
    )


RETRY_ON_OUTAGE = Retries(
    retries=4, retry_delay_seconds=[2, 10, 30, 60], retry_condition_fn=try_again
)
"""For a task that may be repeated: all of ours find again what they have made."""
