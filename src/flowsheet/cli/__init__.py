"""The command line: one module a group of commands.

``--help`` stays quick: a command imports what it needs when it runs, never at the top of a module.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

import click

from flowsheet import __version__
from flowsheet.cli.cohort import ingest, simulate, validate
from flowsheet.cli.completion import completion
from flowsheet.cli.doctor import doctor
from flowsheet.cli.erase import erase
from flowsheet.cli.explain import explain
from flowsheet.cli.housekeeping import clean, report
from flowsheet.cli.listing import ls
from flowsheet.cli.outcomes import outcomes
from flowsheet.cli.project import init, new
from flowsheet.cli.registry import (
    card,
    checklist,
    compare,
    evaluate,
    monitor,
    promote,
    rollback,
    score,
)
from flowsheet.cli.run import rerun, run
from flowsheet.cli.schema import schema
from flowsheet.cli.serving import serve, ui
from flowsheet.cli.worker import worker
from flowsheet.environment import prepare_process
from flowsheet.errors import FlowsheetError, UsageError, did_you_mean, mask_secrets


class _CommandGroup(click.Group):
    """A group that suggests the nearest command for a mistyped one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            ctx.fail(f"there is no command {args[0]!r}; {did_you_mean(args[0], self.commands)}")
        return super().resolve_command(ctx, args)


@click.group(
    cls=_CommandGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, prog_name="flowsheet")
def cli() -> None:
    """Flowsheet: validated cohorts, recurrent and other models, reproducible comparisons.

    State is kept in FLOWSHEET_HOME (default: ./.flowsheet); configurations are in conf/.
    """


for _command in (init, new, run, rerun):
    cli.add_command(_command)
for _command in (ingest, validate, schema, simulate):
    cli.add_command(_command)
for _command in (compare, evaluate, promote, rollback, card, checklist, score, explain):
    cli.add_command(_command)
for _command in (monitor, outcomes):
    cli.add_command(_command)
for _command in (serve, ui, worker, ls, report, clean, erase, doctor, completion):
    cli.add_command(_command)


def main(argv: list[str] | None = None) -> None:
    """Entry point: exit code 0, 1 for a failed check, 2 for wrong usage."""
    for warning in prepare_process():
        click.echo(f"warning: {warning}", err=True)
    try:
        _check_encoding(sys.argv[1:] if argv is None else argv)
        cli.main(args=argv, prog_name="flowsheet", standalone_mode=False)
    except click.exceptions.Exit as end:
        raise SystemExit(end.exit_code) from None
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        raise SystemExit(2) from None
    except click.ClickException as error:
        _print_error(_as_usage_error(error))
        raise SystemExit(2) from None
    except (KeyboardInterrupt, click.Abort):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C does not disturb the exit
        click.echo("stopped; start it again to go on", err=True)
        raise SystemExit(130) from None
    except BrokenPipeError:
        _leave_broken_pipe()
    except FlowsheetError as error:
        _print_error(error)
        raise SystemExit(error.exit_code) from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            _print_error(UsageError("a name is too long for a file", todo="use a shorter one"))
            raise SystemExit(2) from None
        _print_unexpected(error)
        raise SystemExit(1) from None


def _check_encoding(arguments: list[str]) -> None:
    """Refuse text that the locale cannot decode: it could be printed and recorded nowhere.

    Raises:
        UsageError: an argument has bytes that are no text in the locale's encoding.
    """
    for argument in arguments:
        if any("\udc80" <= character <= "\udcff" for character in argument):
            raise UsageError(
                f"an argument is not text in the locale's encoding ({sys.getfilesystemencoding()})",
                where=ascii(argument),
                todo="use a UTF-8 locale, such as LC_ALL=C.UTF-8",
            )


def _as_usage_error(error: click.ClickException) -> UsageError:
    """Click's error in the form of all others."""
    message = error.format_message().rstrip(".")
    context = getattr(error, "ctx", None)
    path = context.command_path if context else None
    return UsageError(
        message[:1].lower() + message[1:], where=path, todo=path and f"see `{path} --help`"
    )


def _leave_broken_pipe() -> NoReturn:
    """Exit as if the reader of standard output had read all, as with ``flowsheet ls ... | head``.

    What is still buffered goes to the null device: otherwise Python would complain at exit.
    """
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    raise SystemExit(0) from None


def _print_error(error: FlowsheetError) -> None:
    label = "error"
    if not os.environ.get("NO_COLOR"):  # https://no-color.org
        label = click.style(label, fg="red", bold=True)
    click.echo(f"{label}: {mask_secrets(str(error))}", err=True)


def _print_unexpected(error: Exception) -> None:
    """Print one line, and write the traceback to a file for a bug report."""
    log = _write_traceback(error)
    reason = str(error).split("\n", 1)[0]
    if isinstance(error, OSError) and error.strerror:
        reason = error.strerror
    todo = f"see {log}" if log else None
    _print_error(FlowsheetError(f"{type(error).__name__}: {reason}", todo=todo))


def _write_traceback(error: Exception) -> Path | None:
    """The file with the traceback; None if it cannot be written."""
    import traceback

    from flowsheet.state.home import home

    try:
        folder = home() / "logs"
        folder.mkdir(exist_ok=True)
        log = folder / "error.log"
        log.write_text(mask_secrets("".join(traceback.format_exception(error))), encoding="utf-8")
    except (FlowsheetError, OSError):
        return None
    return log
