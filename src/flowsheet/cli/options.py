"""Arguments and options that several commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from flowsheet.cli.completion import complete_override
from flowsheet.state.locations import local_path, parse_location


class LocalPath(click.Path):
    """A local file or folder; URLs are refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path."""
        name = param.get_error_hint(ctx).strip("'") if param and ctx else "the path"
        return super().convert(local_path(value, name), param, ctx)


class LocationPath(click.Path):
    """A local file or folder, or one in an object store (``s3://BUCKET/NAME``)."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The location."""
        location = parse_location(value)
        return super().convert(value, param, ctx) if isinstance(location, Path) else location


LOCAL_PATH = LocalPath(path_type=Path)
LOCATION = LocationPath(path_type=Path)

Command = TypeVar("Command", bound=Callable[..., Any])

overrides = click.argument(
    "overrides", nargs=-1, metavar="[KEY=VALUE]...", shell_complete=complete_override
)


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


def _set_quiet(context: click.Context, parameter: click.Parameter, is_set: bool) -> None:
    if is_set:
        _set_log_level(context, parameter, "error")


def _set_verbose(context: click.Context, parameter: click.Parameter, is_set: bool) -> None:
    if is_set:
        _set_log_level(context, parameter, "debug")


def _set_log_level(context: click.Context, _: click.Parameter, level: str | None) -> None:
    if level:
        from flowsheet.progress import set_log_level

        context.with_resource(set_log_level(level))


def log_level(command: Command) -> Command:
    """``-q``, ``-v`` and ``--log-level``: how much progress is printed on standard error."""
    hidden: dict[str, Any] = {"is_flag": True, "expose_value": False}
    choose = click.option(
        "--log-level",
        type=click.Choice(["debug", "info", "warning", "error"]),
        callback=_set_log_level,
        expose_value=False,
        help="What is printed on standard error.  [default: info]",
    )
    quiet = click.option("-q", "--quiet", callback=_set_quiet, help="Print no progress.", **hidden)
    verbose = click.option(
        "-v", "--verbose", callback=_set_verbose, help="Print every epoch.", **hidden
    )
    return quiet(verbose(choose(command)))


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


def _check_runner(context: click.Context, parameter: click.Parameter, runner: str) -> str:
    if runner != "process" and context.params.get("workers") == 1:
        raise click.UsageError(f"--runner {runner} takes --workers 2 or more", context)
    return runner


def workers(work: str) -> Callable[[Command], Command]:
    """``--workers N`` and ``--runner``: processes that do this work."""
    number = click.option(
        "--workers",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        is_eager=True,
        help=f"Processes that {work}.",
    )
    runner = click.option(
        "--runner",
        type=click.Choice(["process", "dask", "ray"]),
        default="process",
        show_default=True,
        callback=_check_runner,
        help="What starts them.",
    )
    return lambda command: number(runner(command))
