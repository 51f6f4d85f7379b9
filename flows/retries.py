"""What is tried again: calls to a server that did not answer. Wrong records stay wrong, however often one asks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypedDict

from prefect.client.schemas.objects import State, TaskRun

from flowsheet.errors import Unreachable

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
_MLFLOW_SAYS = ("API request to", "Max retries exceeded", "Connection refused", "TEMPORARILY_UNAVAILABLE")


class Retries(TypedDict):
    """Options of a task that talks to servers."""

    retries: int
    retry_delay_seconds: list[float]
    retry_condition_fn: Any


def is_outage(error: BaseException | None) -> bool:
    """Whether an error, or what it was caused by, is a server that did not answer."""
    return any(_is_outage(each) for each in _chain(error))


def _is_outage(error: BaseException) -> bool:
    if isinstance(error, Unreachable | ConnectionError | TimeoutError):
        return not type(error).__module__.startswith("prefect")  # a time limit of our own is final
    if any((kind.__module__, kind.__name__) in _KINDS for kind in type(error).__mro__):
        return True
    return type(error).__name__ == "MlflowException" and any(words in str(error) for words in _MLFLOW_SAYS)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def try_again(task: Any, run: TaskRun, state: State[Any]) -> bool:
    """Prefect's question after a failed task run."""
    return isinstance(state.data, BaseException) and is_outage(state.data)


ON_OUTAGE = Retries(retries=4, retry_delay_seconds=[2, 10, 30, 60], retry_condition_fn=try_again)
"""For a task that may be repeated: all of ours find again what they have made."""
