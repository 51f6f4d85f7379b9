"""Arguments and options that several commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import click

Command = TypeVar("Command", bound=Callable[..., Any])

overrides = click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")


def _add_conf(context: click.Context, parameter: click.Parameter, folder: str | None) -> None:
    if folder is not None:
        from flowsheet.compose import add_conf_folder

        add_conf_folder(Path(folder))


conf = click.option(
    "--conf",
    metavar="DIR",
    callback=_add_conf,
    expose_value=False,
    help="A folder of own choices; they come before the project's and the shipped ones.",
)

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
    """``--config NAME`` for a file of ``conf/GROUP/``, and ``--conf DIR``."""
    name = click.option(
        "--config",
        "config_name",
        default="standard",
        show_default=True,
        help=f"Name of a file of conf/{group}/.",
    )
    return lambda command: name(conf(command))
