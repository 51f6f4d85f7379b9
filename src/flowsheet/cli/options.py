"""Arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

overrides = click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")

reason = click.option("--reason", required=True, help="Why; kept in the log of decisions.")

actor = click.option("--actor", default="", help="Who decides.  [default: this process's user]")


def config(group: str) -> Callable[[Command], Command]:
    """``--config NAME`` for a file of ``conf/GROUP/``."""
    return click.option(
        "--config",
        "config_name",
        default="standard",
        show_default=True,
        help=f"Name of a file of conf/{group}/.",
    )
