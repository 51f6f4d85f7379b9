"""``explain``: why a model gives a stay its risk."""

from __future__ import annotations

from pathlib import Path

import click

from flowsheet.cli import options


@click.command()
@click.argument("model")
@click.argument("extract", type=click.Path(path_type=Path))
@click.option("--stay", "stay_id", type=int, required=True, help="The stay_id.")
@click.option("--step", type=click.IntRange(min=1), help="The step.  [default: the last one]")
@click.option(
    "--since",
    type=click.IntRange(min=1),
    help="Explain also why the risk changed since this earlier step.",
)
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="How many contributions to print, the largest ones.",
)
@options.as_json
@options.interruptible
def explain(
    model: str,
    extract: Path,
    *,
    stay_id: int,
    step: int | None,
    since: int | None,
    top: int,
    as_json: bool,
) -> None:
    """Explain the risk that MODEL gives a stay of the cohort extract in the folder EXTRACT.

    MODEL is NAME@ALIAS or NAME/VERSION. Contributions are log odds; with the baseline they add up
    to the log odds of the risk.

    \b
    flowsheet explain demo-lstm@champion extracts/today --stay 17
    flowsheet explain demo-lstm@champion extracts/today --stay 17 --step 9 --since 8
    """
    from flowsheet.cli.console import print_explanation, print_json
    from flowsheet.lifecycle.deployment.explanation import explain_stay

    explanation = explain_stay(model, extract, stay_id, step, since)
    if as_json:
        print_json(explanation.as_json(top))
    else:
        print_explanation(explanation, top)
