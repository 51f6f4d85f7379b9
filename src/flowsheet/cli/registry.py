"""``compare``, ``promote``, ``card``, ``checklist``, ``score``, ``monitor``, ...: finished runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import click

from flowsheet.cli import options
from flowsheet.cli.completion import complete_registered

if TYPE_CHECKING:
    from pathlib import Path

    from flowsheet.state.locations import Location


@click.command()
@click.argument(
    "runs", nargs=-1, required=True, metavar="RUN...", shell_complete=complete_registered
)
@click.option("--metric", help="Metric that ranks the models.  [default: the first run's]")
@click.option(
    "--on",
    type=click.Choice(["common", "today"]),
    default="common",
    show_default=True,
    help="Compare recorded predictions of the rows that all held out, or let all models score "
    "those that are held out of today's records.",
)
@options.log_level
@options.as_json
@options.interruptible
def compare(
    runs: tuple[str, ...], *, metric: str | None, on: Literal["common", "today"], as_json: bool
) -> None:
    """Compare the models of each RUN on the same held-out rows.

    RUN is a run's id, latest, NAME/VERSION or NAME@ALIAS. Today's records are those of the
    experiment that was started last, as they are now. A model that was developed on a patient who
    is held out of them is refused.

    \b
    flowsheet compare 3f2a9c1e 8b01d7aa
    flowsheet compare demo-lstm@champion demo-lstm/7 --on today
    """
    from flowsheet.cli.console import comparison_as_json, print_comparison, print_json
    from flowsheet.lifecycle.deployment.compare_models import compare_runs
    from flowsheet.progress import report

    comparison = compare_runs(runs, metric, on=on, progress=report)
    if as_json:
        print_json(comparison_as_json(comparison))
    else:
        print_comparison(comparison)


@click.command()
@click.argument(
    "models", nargs=-1, required=True, metavar="MODEL...", shell_complete=complete_registered
)
@click.argument("extract", type=options.LOCATION)
@click.option("--out", type=options.LOCATION, help="Write the report to this HTML file too.")
@options.log_level
@options.as_json
@options.interruptible
def evaluate(
    models: tuple[str, ...], extract: Location, *, out: Location | None, as_json: bool
) -> None:
    """Evaluate each MODEL on the cohort extract in the folder EXTRACT, which has outcomes.

    MODEL is NAME@ALIAS or NAME/VERSION. Subjects on whom a model was developed are left out;
    alerts use the threshold that was fixed at home. The result is recorded below the version's run.

    \b
    flowsheet evaluate demo-lstm@champion extracts/other_hospital --out elsewhere.html
    flowsheet evaluate demo-lstm/3 demo-gru/2 extracts/other_hospital
    """
    from flowsheet.cli.console import print_evaluation, print_json
    from flowsheet.lifecycle.deployment import external_evaluation
    from flowsheet.progress import report

    result = external_evaluation.evaluate_elsewhere(models, extract, report, out)
    if as_json:
        print_json(external_evaluation.to_json(result))
    else:
        print_evaluation(result)


@click.command()
@click.argument("name", shell_complete=complete_registered)
@click.option(
    "--version",
    type=click.IntRange(min=1),
    help="Version of the model.  [default: the challenger, or else the latest one, if it was "
    "trained with the champion's configuration]",
)
@options.config("promotion")
@click.option(
    "--register-as",
    "service",
    metavar="NAME",
    help="Registered name to serve under, where models of different kinds compete."
    "  [default: the model's own]",
)
@options.reason
@options.actor
@options.log_level
@options.as_json
@options.interruptible
def promote(
    name: str,
    version: int | None,
    *,
    config_name: str,
    service: str | None,
    reason: str,
    actor: str,
    as_json: bool,
) -> None:
    """Make a version of the registered model NAME the champion if it passes every gate.

    Exits with 1 if it does not.

    \b
    flowsheet promote demo-lstm --reason "first model in service"
    flowsheet promote demo-gru --version 2 --register-as sepsis --reason "better in May"
    """
    from flowsheet.cli.console import print_json, print_promotion
    from flowsheet.errors import CheckFailed
    from flowsheet.lifecycle.deployment import promotion

    config = promotion.load_promotion_config(config_name)
    result = promotion.promote(name, version, config, service=service, actor=actor, reason=reason)
    if as_json:
        print_json({"promoted": result.promoted, **result.model_dump(mode="json")})
    else:
        print_promotion(result)
    if not result.promoted:
        decision = result.decision
        failed = ", ".join(gate.name for gate in result.gates if not gate.passed)
        raise CheckFailed(f"refused: {failed}", where=f"{decision.name}/{decision.version}")


@click.command()
@click.argument("name", shell_complete=complete_registered)
@click.option(
    "--version",
    type=click.IntRange(min=1),
    help="A former champion.  [default: the previous one]",
)
@options.reason
@options.actor
@options.interruptible
def rollback(name: str, version: int | None, *, reason: str, actor: str) -> None:
    """Make the previous champion of the registered model NAME, or a former one, champion again."""
    from flowsheet.cli.console import print_rollback
    from flowsheet.lifecycle.deployment import promotion

    print_rollback(promotion.rollback(name, version=version, actor=actor, reason=reason))


@click.command()
@click.argument("model", metavar="NAME[/VERSION|@ALIAS]")
def card(model: str) -> None:
    """Print the model card of a registered version (default: the champion) as Markdown.

    \b
    flowsheet card demo-lstm > MODEL_CARD.md
    flowsheet card demo-lstm/3
    """
    from flowsheet.lifecycle.model_card.card import render_card

    click.echo(render_card(model), nl=False)


@click.command()
@click.argument("run", metavar="RUN")
def checklist(run: str) -> None:
    """Print the TRIPOD+AI checklist of an experiment's RUN as Markdown.

    Every item is filled from the record where a fact answers it, and otherwise left open for the
    authors. RUN is a run's id, latest, NAME/VERSION or NAME@ALIAS.

    \b
    flowsheet checklist 3f2a9c1e > tripod.md
    """
    from flowsheet.lifecycle.checklist.checklist import render_checklist

    click.echo(render_checklist(run), nl=False)


@click.command()
@click.argument("model", shell_complete=complete_registered)
@click.argument("extract", type=options.LOCATION)
@click.option("--out", type=options.LOCATION, help="Write the scores to this Parquet file too.")
@options.workers("predict batches of 2,000 stays")
@options.interruptible
def score(
    model: str, extract: Location, *, out: Location | None, workers: int, runner: str
) -> None:
    """Score every stay of the cohort extract in the folder EXTRACT with MODEL.

    MODEL is NAME@ALIAS or NAME/VERSION.

    \b
    flowsheet score demo-lstm@champion extracts/today --out risks.parquet
    flowsheet score demo-lstm@champion extracts/year --workers 4
    """
    from flowsheet.cli.console import print_scores
    from flowsheet.cli.run import build_in_workers
    from flowsheet.lifecycle.deployment import batch_scoring
    from flowsheet.progress import report

    if workers > 1:
        plan = batch_scoring.plan_batches(model, extract)
        build_in_workers("score", plan, workers, runner)
    print_scores(batch_scoring.score(model, extract, out, report))


@click.command()
@click.argument("model", shell_complete=complete_registered)
@click.argument("extract", type=options.LOCATION)
@click.option("--out", type=options.LOCATION, help="Write the report to this HTML file too.")
@click.option(
    "--metrics",
    metavar="FILE",
    type=options.LOCAL_PATH,
    help="Write the findings to this file (*.prom) for node_exporter's textfile collector.",
)
@options.config("monitoring")
@options.workers("predict batches of 2,000 stays")
@options.log_level
@options.as_json
@options.interruptible
def monitor(
    model: str,
    extract: Location,
    *,
    out: Location | None,
    metrics: Path | None,
    config_name: str,
    workers: int,
    runner: str,
    as_json: bool,
) -> None:
    """Compare the cohort extract in the folder EXTRACT with what MODEL was trained on.

    Exits with 1 if something changed, and with 3 if nothing is flagged but most properties could
    not be judged.

    \b
    flowsheet monitor demo-lstm@champion extracts/today --out drift.html
    """
    from flowsheet.cli.console import print_json, print_monitoring
    from flowsheet.cli.run import build_in_workers
    from flowsheet.errors import CheckFailed
    from flowsheet.lifecycle.deployment import monitoring
    from flowsheet.progress import report

    config = monitoring.load_monitoring_config(config_name)
    if workers > 1:
        plan = monitoring.plan_batches(model, extract, config)
        build_in_workers("monitor", plan, workers, runner)
    result = monitoring.monitor(model, extract, report, config, out, metrics=metrics)
    if as_json:
        print_json(result.model_dump(mode="json", exclude={"stage"}))
    else:
        print_monitoring(result)
    if result.has_flags:
        names = ", ".join(dict.fromkeys(flag.name for flag in result.flags))
        raise CheckFailed(f"changed: {names}", where=str(extract), todo=f"read {result.report}")
    if not result.judged:
        raise monitoring.NotJudged(
            result.headline, where=str(extract), todo="monitor more patients at once"
        )
