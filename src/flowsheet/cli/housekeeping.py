"""``flowsheet report`` and ``clean``: look at what a run left, and remove what is old."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from flowsheet.cli import options
from flowsheet.cli.completion import complete_registered


@click.command()
@click.argument("run", required=False, shell_complete=complete_registered)
@click.option("--open", "is_opened", is_flag=True, help="Open it in the browser.")
@click.option("--out", type=options.LocalPath(path_type=Path, dir_okay=False), help="Copy it here.")
@options.interruptible
def report(run: str | None, *, is_opened: bool, out: Path | None) -> None:
    """Print the path of the report of RUN; --open opens it.

    RUN is a run's id, NAME/VERSION or NAME@ALIAS.  [default: the latest run]

    \b
    flowsheet report --open
    flowsheet report demo-lstm@champion --out report.html
    """
    from flowsheet.cli.console import print_line
    from flowsheet.lifecycle.runtime.reports import fetch_report

    file = fetch_report(run, out)
    print_line(str(file))
    if is_opened:
        click.launch(file.as_uri())


@click.command()
@click.option(
    "--older-than",
    "days",
    type=click.FloatRange(min=0),
    default=30,
    show_default=True,
    metavar="DAYS",
    help="Only what has not been written to for that long.",
)
@click.option("--answers", "with_answers", is_flag=True, help="Old answers of servers, too.")
@click.option("--delete", "is_deleted", is_flag=True, help="Delete it; without, nothing changes.")
@options.as_json
@options.interruptible
def clean(*, days: float, with_answers: bool, is_deleted: bool, as_json: bool) -> None:
    """List what is old in the state folder, with its size; --delete deletes it.

    Runs, registered models and decisions stay, and so do the extracts of registered models, which a
    promotion needs. Answers that servers kept are only deleted with --answers, a day at a time.
    Everything else in the store is built again by the run that needs it.

    \b
    flowsheet clean --older-than 7
    flowsheet clean --older-than 7 --delete
    flowsheet clean --older-than 365 --answers --delete
    """
    from flowsheet.cli.console import console, make_table, print_json, print_line
    from flowsheet.lifecycle.runtime.clean import delete_old_folders, find_old_folders

    find = delete_old_folders if is_deleted else find_old_folders
    folders = find(days, with_answers=with_answers)
    if as_json:
        print_json([asdict(folder) for folder in folders])
        return
    rows = [
        [
            folder.kind,
            format_size(folder.size),
            f"{folder.days:.0f}",
            f"kept: {folder.needed_by} needs it" if folder.needed_by else "",
            str(folder.path),
        ]
        for folder in folders
    ]
    if rows:
        console().print(make_table("", ["kind", "size", "days", "", "folder"], rows))
    free = format_size(sum(folder.size for folder in folders if not folder.needed_by))
    verb = "deleted" if is_deleted else "can be deleted with --delete"
    print_line(f"{free} {verb}")


def format_size(size: float) -> str:
    """A size for people.

    >>> format_size(90), format_size(12_345), format_size(3.2e9)
    ('90 B', '12.3 kB', '3.2 GB')
    """
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
