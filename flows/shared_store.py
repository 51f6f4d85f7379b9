"""Worker processes on other machines need the store of the flow run that submits their tasks."""

from __future__ import annotations

from pathlib import Path

from flowsheet.errors import UsageError
from flowsheet.lifecycle.experiment.stage import Stage
from flowsheet.state.home import home
from flowsheet.state.store import Store, shared_folder


def check_shared_folder(folder: Path, content: str) -> None:
    """Check that this worker sees a folder of the run that submitted its task.

    Args:
        folder: in the state folder of the run.
        content: what is in it, for the message.

    Raises:
        UsageError: it does not.
    """
    own = home()
    if not folder.is_relative_to(own) or not folder.is_dir():
        raise UsageError(
            f"this worker does not see {content} of the run that submitted its task",
            where=f"{folder}; this worker's state folder is {own}",
            todo="set FLOWSHEET_HOME to the same shared folder for the run and for all workers",
        )


def check_shared_store(*stages: Stage) -> None:
    """Check that what a task is about to read is in this worker's store.

    Raises:
        UsageError: it is not.
    """
    if shared_folder():  # what is not here is fetched
        return
    root = Store.open().root
    for stage in stages:
        if not Path(stage.path).is_relative_to(root) or not Path(stage.path).is_dir():
            raise UsageError(
                f"this worker does not see the {stage.kind} of the run that submitted its task",
                where=f"{stage.path}; this worker's store is {root}",
                todo="set FLOWSHEET_HOME to the same shared folder, or FLOWSHEET_STORE to the same "
                "object store, for the run and for all workers",
            )
