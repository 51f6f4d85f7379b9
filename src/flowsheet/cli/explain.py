"""``explain``: why a model gives a stay its risk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from flowsheet.cli import options

if TYPE_CHECKING:
    from flowsheet.lifecycle.deployment.explanation import StayExplanation
    from flowsheet.state.locations import Location


@click.command()
@click.argument("model")
@click.argument("extract", type=options.LOCATION)
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
    extract: Location,
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
    from flowsheet.cli.console import print_json
    from flowsheet.lifecycle.deployment.explanation import explain_stay

    explanation = explain_stay(model, extract, stay_id, step, since)
    if as_json:
        print_json(explanation.as_json(top))
    else:
        _print(explanation, top)


def _print(explanation: StayExplanation, top: int) -> None:
    """Print what adds to a risk, and what has changed it since an earlier step."""
    from rich.markup import escape

    from flowsheet.cli.console import console, make_table, print_line

    prediction = explanation.prediction
    contributions = explanation.contributions
    print_line(
        f"{explanation.model}/{explanation.version}, stay {prediction['stay_id']}, step "
        f"{prediction['step']} ({prediction['time']:%Y-%m-%d %H:%M}): risk {prediction['risk']:.3f}"
    )
    rows = [
        [
            escape(row["label"]),
            f"{row['contribution']:+.2f}",
            escape(row["text"].rpartition(": ")[0]),
        ]
        for row in contributions.head(top).iter_rows(named=True)
    ]
    others = contributions["contribution"][top:].sum()
    if contributions.height > top:
        rows.append([f"{contributions.height - top} others", f"{others:+.2f}", ""])
    rows.append(["baseline", f"{prediction['baseline']:+.2f}", "log odds of the reference patient"])
    rows.append(["together", f"{prediction['log_odds']:+.2f}", "log odds of the risk"])
    console().print(make_table("why", ["", "log odds", "recorded"], rows))
    if explanation.rise is not None:
        changes = [
            [
                escape(row["label"]),
                f"{row['change']:+.2f}",
                f"{row['before']:+.2f}",
                f"{row['after']:+.2f}",
            ]
            for row in explanation.rise.head(top).iter_rows(named=True)
        ]
        title = f"why the risk changed since step {explanation.since}"
        console().print(make_table(title, ["", "change", "before", "now"], changes))
