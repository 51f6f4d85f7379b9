"""A Dask cluster of processes on this machine, for one flow run."""

from __future__ import annotations

import contextlib
from typing import Any

from prefect_dask import DaskTaskRunner


class LocalDaskRunner(DaskTaskRunner):  # type: ignore[misc]
    """Prefect's task runner, of which a run that has succeeded does not fail at its end."""

    def __exit__(self, *args: Any) -> None:
        """Close the cluster; Dask waits some seconds for workers that it has killed.

        They take longer to end where the machine is busy.
        """
        with contextlib.suppress(TimeoutError):
            super().__exit__(*args)
