"""Settings of a process that executes a flow run, as a worker starts it."""

from __future__ import annotations

import logging
import os
import sys

from prefect.context import refresh_global_settings_context
from prefect.logging.handlers import PrefectConsoleHandler

from flowsheet.lifecycle.runtime.local_servers import use_quiet_settings
from flowsheet.progress import protect_output

_CONSOLE_LEVEL = "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"


def prepare_flow_process() -> None:
    """Apply the quiet settings to this process, and let no lost line of output end it.

    Prefect has read its settings before it loads a flow, so they are read again here. The
    deployments in ``prefect.yaml`` set the same variables, for what happens before.
    """
    use_quiet_settings()
    protect_output()
    refresh_global_settings_context()
    for handler in _list_console_handlers():
        handler.setLevel(os.environ[_CONSOLE_LEVEL])
        handler.console.file = sys.stderr


def _list_console_handlers() -> list[PrefectConsoleHandler]:
    names = [name for name in logging.root.manager.loggerDict if name.startswith("prefect")]
    handlers = [handler for name in names for handler in logging.getLogger(name).handlers]
    return [handler for handler in handlers if isinstance(handler, PrefectConsoleHandler)]
