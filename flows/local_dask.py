"""A Dask cluster of processes on this machine, for one flow run."""

from __future__ import annotations

import contextlib
from typing import Any, Self

import dask
from prefect_dask import DaskTaskRunner

_SETTINGS = {
    "distributed.comm.timeouts.tcp": "300s",
    "distributed.scheduler.no-workers-timeout": "600s",
}
"""Dask gives up a worker that is silent for 30 s, as on a busy machine that imports what a task
needs, and then waits for ever for another one."""
_DEFAULTS = ("30s", None)
"""Dask's own values of these settings."""


class LocalDaskRunner(DaskTaskRunner):  # type: ignore[misc]
    """Prefect's task runner, of which a run that has succeeded does not fail at its end."""

    def __enter__(self) -> Self:
        """Start the cluster; what the user has set of Dask is left as it is."""
        ours = {name: value for name, value in _SETTINGS.items() if _is_default(name)}
        self._settings = dask.config.set(ours)
        super().__enter__()
        return self

    def __exit__(self, *args: Any) -> None:
        """Close the cluster; Dask waits some seconds for workers that it has killed.

        They take longer to end where the machine is busy.
        """
        with contextlib.suppress(TimeoutError):
            super().__exit__(*args)
        self._settings.__exit__(None, None, None)  # type: ignore[no-untyped-call]


def _is_default(name: str) -> bool:
    return dask.config.get(name) in _DEFAULTS
