"""Arguments and options that several commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import click

Command = TypeVar("Command", bound=Callable[..., Any])

overrides = click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")

reason = click.option("--reason", required=True, help="Why; kept in the log of decisions.")

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")

force = click.option(
    "--force", is_flag=True, help="Replace what an earlier call wrote to the folder."
)

actor = click.option("--actor", default="", help="Who decides.  [default: this process's user]")


def interruptible(command: Command) -> Command:
    """Let Ctrl-C and SIGTERM stop the command at any time."""

    @functools.wraps(command)
    def run(*arguments: Any, **keywords: Any) -> Any:
        from flowsheet.lifecycle.runtime.processes import interruptible as block

        with block():
            return command(*arguments, **keywords)

    return cast("Command", run)


def config(group: str) -> Callable[[Command], Command]:
    """``--config NAME`` for a file of ``conf/GROUP/``."""
    return click.option(
        "--config",
        "config_name",
        default="standard",
        show_default=True,
        help=f"Name of a file of conf/{group}/.",
    )
