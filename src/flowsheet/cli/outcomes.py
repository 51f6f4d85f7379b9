"""``flowsheet outcomes``: what servers answered, and what became of the patients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from flowsheet.cli import options

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from flowsheet.lifecycle.outcomes.outcomes import Outcomes
    from flowsheet.state.locations import Location


@click.command()
@click.argument("answers", type=options.LOCAL_PATH)
@click.argument("extract", type=options.LOCATION)
@click.option("--model", metavar="NAME", help="Registered name.  [default: the only one]")
@click.option(
    "--until",
    type=click.DateTime(),
    help="When the records of EXTRACT were exported: outcomes that are not known by then are not "
    "judged.  [default: the end of its last stay]",
)
@click.option("--out", type=options.LOCATION, help="Write the report to this HTML file too.")
@options.log_level
@options.as_json
@options.interruptible
def outcomes(
    answers: Path,
    extract: Location,
    *,
    model: str | None,
    until: datetime | None,
    out: Location | None,
    as_json: bool,
) -> None:
    """Judge the answers in the folder ANSWERS by the outcomes in the cohort extract EXTRACT.

    ANSWERS is what `flowsheet serve --keep-answers` wrote to. Each version is judged by its own
    answers; a challenger in the shadow is compared with the champion on the same requests, and
    tagged with the verdict.

    \b
    flowsheet outcomes answers extracts/last_month --out outcomes.html
    """
    from flowsheet.cli.console import print_json
    from flowsheet.lifecycle.outcomes.outcomes import judge_outcomes, to_json
    from flowsheet.progress import report

    result = judge_outcomes(answers, extract, report, model=model, until=until, out=out)
    if as_json:
        print_json(to_json(result))
    else:
        _print_outcomes(result)


def _print_outcomes(result: Outcomes) -> None:
    """Print what was judged of each version, its leaderboard, and the verdicts on challengers."""
    from flowsheet.cli.console import print_leaderboard, print_line
    from flowsheet.evaluation.leaderboard import list_leaderboard_tables

    print_line(f"outcomes are known until {result.until or 'the end of each stay'}")
    for judged in result.versions:
        print_line(
            f"version {judged.version}, {judged.period}: {judged.given:,} answered steps, "
            f"{judged.counted:,} count, {judged.rows.answers:,} judged"
        )
        for unjudged in judged.rows.unjudged:
            print_line(f"- not judged: {unjudged.summary}")
        for board in list_leaderboard_tables(judged.evidence):
            title = f"version {judged.version}. {board.title}"
            print_leaderboard(title, board.with_titles(judged.evidence.titles))
        print_line(f"version {judged.version}: {judged.summary}")
        print_line(f"version {judged.version}: {judged.alerts}")
    for line in (*(verdict.summary for verdict in result.verdicts), *result.not_judged):
        print_line(line)
    for judged in result.versions:
        print_line(f"run {judged.run_id}")
    print_line(f"report {result.report}")
