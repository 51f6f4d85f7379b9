"""``flowsheet erase``: a subject leaves every place where their records are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from flowsheet.cli import options

if TYPE_CHECKING:
    from flowsheet.state.locations import Location


@click.command()
@click.argument("subjects", nargs=-1, type=int, metavar="SUBJECT...")
@click.option(
    "--in",
    "folders",
    multiple=True,
    type=options.LOCATION,
    metavar="FOLDER",
    help="A cohort extract outside FLOWSHEET_HOME, which is written again too; repeatable.",
)
@click.option("--dry-run", is_flag=True, help="Only show what would be erased.")
@click.option(
    "--reason",
    default="not specified",
    show_default=True,
    help="Why; kept in the log of decisions.",
)
@options.actor
@options.interruptible
def erase(
    subjects: tuple[int, ...],
    *,
    folders: tuple[Location, ...],
    dry_run: bool,
    reason: str,
    actor: str,
) -> None:
    """Erase each SUBJECT (subject_id) from FLOWSHEET_HOME, the store and MLflow's artifacts.

    Extracts, held-out predictions and kept answers are written again without them; windows, splits
    and other stages that can be built again are deleted. Models that were trained on them are
    listed and marked, later ingests leave them out, and the log of decisions gets an entry. Without
    SUBJECT, an interrupted erasure is completed. Raw records and backups
    that you made are yours to change.

    \b
    flowsheet erase 10006 --dry-run
    flowsheet erase 10006 10011 --reason "request of 1 March"
    flowsheet erase 10006 --in extracts/today
    """
    from flowsheet.cli.console import print_erasure
    from flowsheet.lifecycle.erasure.erase import erase as erase_subjects
    from flowsheet.progress import report

    result = erase_subjects(
        subjects, folders, actor=actor, reason=reason, dry_run=dry_run, progress=report
    )
    print_erasure(result)
