"""The command line. ``--help`` stays quick: every command imports what it needs when it runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from flowsheet import __version__
from flowsheet.errors import FlowsheetError, UsageError, did_you_mean, mask_secrets


class _Commands(click.Group):
    """Errors are said, never shown as tracebacks; a mistyped command gets its neighbour."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            ctx.fail(f"there is no command {args[0]!r}; {did_you_mean(args[0], self.commands)}")
        return super().resolve_command(ctx, args)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, prog_name="flowsheet")
def cli() -> None:
    """Flowsheet: validated cohorts, models that remember, comparisons that can be believed.

    State lives under FLOWSHEET_HOME (default ./.flowsheet). Choices live in conf/.
    """


_OVERRIDES = click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")

_ALLOCATORS = {
    "_RJEM_MALLOC_CONF": "dirty_decay_ms:-1,muzzy_decay_ms:-1",
    "MIMALLOC_PURGE_DELAY": "-1",
}
"""Polars' and Arrow's keep what was freed: an ingest uses the same pages again and again, and to
fetch them anew from the system costs up to a tenth of its processor time. Read when the libraries
are loaded."""


@cli.command()
@click.argument("experiment")
@_OVERRIDES
@click.option("--dry-run", is_flag=True, help="Print the resolved configuration and stop.")
def run(experiment: str, overrides: tuple[str, ...], dry_run: bool) -> None:
    """Run EXPERIMENT (a file of conf/experiment/) from records to a ranked, registered model.

    \b
    flowsheet run demo
    flowsheet run physionet2019 cohort.path=training_setA.zip tuning.trials=5
    """
    if dry_run:
        from flowsheet.cli.commands import resolved

        click.echo(resolved(experiment, overrides), nl=False)
    else:
        from flowsheet.cli.run import run as run_experiment

        run_experiment(experiment, overrides)


@cli.command()
@click.argument("cohort")
@_OVERRIDES
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Write the extract here instead of into the store.",
)
def ingest(cohort: str, overrides: tuple[str, ...], out: Path | None) -> None:
    """Make a validated cohort extract from COHORT (a file of conf/cohort/).

    \b
    flowsheet ingest physionet2019 cohort.path=training_setA.zip
    """
    os.environ.update(
        {name: setting for name, setting in _ALLOCATORS.items() if name not in os.environ}
    )
    from flowsheet.cli import commands

    commands.ingest(cohort, overrides, out)


@cli.command()
@click.argument("extract", type=click.Path(path_type=Path))
def validate(extract: Path) -> None:
    """Check the cohort extract in the folder EXTRACT against the contract; exit 1 if it fails."""
    from flowsheet.cli import commands

    commands.validate(extract)


@cli.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--stays", type=click.IntRange(min=1), help="How many ICU stays.")
@click.option(
    "--seed", type=click.IntRange(min=0), help="Another seed is another ward under the same law."
)
@click.option(
    "--cohort",
    help="The choice of conf/cohort/ with the law.  [default: simulated, or simulated_icu]",
)
@click.option(
    "--as", "form", type=click.Choice(["extract", "mimic3"]), default="extract", show_default=True
)
@_OVERRIDES
def simulate(
    out: Path,
    *,
    stays: int | None,
    seed: int | None,
    cohort: str | None,
    form: str,
    overrides: tuple[str, ...],
) -> None:
    """Write a simulated ward with a known law to the folder OUT.

    As a cohort extract, or as raw tables that look like MIMIC-III's, with realistic dirt, of any
    size.

    \b
    flowsheet simulate ward --stays 500 cohort.options.max_steps=30
    flowsheet simulate raw --as mimic3 --stays 1000 raw.duplicates=0.01
    """
    from flowsheet.cli import commands

    commands.simulate(out, stays=stays, seed=seed, cohort=cohort, form=form, overrides=overrides)


@cli.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--metric", help="The leaderboard's order; by default the first run's own.")
def compare(runs: tuple[str, ...], metric: str | None) -> None:
    """Compare the models of each RUN on the same held-out rows: a run's id, NAME/VERSION or
    NAME@ALIAS.

    \b
    flowsheet compare 3f2a9c1e 8b01d7aa
    flowsheet compare demo-lstm@champion demo-gru/2
    """
    from flowsheet.cli import commands

    commands.compare(runs, metric)


@cli.command()
@click.argument("run_id")
def rerun(run_id: str) -> None:
    """Run the experiment RUN_ID again from its record alone and compare every figure; exit 1 if one differs."""
    from flowsheet.cli import commands

    commands.rerun(run_id)


@cli.command()
@click.argument("model")
@click.argument("extract", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), help="Write the scores to this Parquet file too."
)
def score(model: str, extract: Path, out: Path | None) -> None:
    """Score every stay of the cohort extract in the folder EXTRACT with MODEL: NAME@ALIAS or
    NAME/VERSION.

    \b
    flowsheet score demo-lstm@champion extracts/today --out risks.parquet
    """
    from flowsheet.cli import commands

    commands.score(model, extract, out)


@cli.command()
@click.argument("model")
@click.argument("extract", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), help="Write the report to this HTML file too."
)
@click.option(
    "--choice", default="standard", show_default=True, help="The choice of conf/monitoring/."
)
def monitor(model: str, extract: Path, out: Path | None, choice: str) -> None:
    """Hold the cohort extract in the folder EXTRACT against what MODEL was trained on; exit 1 if
    something changed.

    \b
    flowsheet monitor demo-lstm@champion extracts/today --out drift.html
    """
    from flowsheet.cli import commands

    commands.monitor(model, extract, out, choice)


_REASON = click.option("--reason", required=True, help="Why; kept in the log.")
_ACTOR = click.option(
    "--actor", default="", help="Who decides; by default the user of this process."
)


@cli.command()
@click.argument("name")
@click.option(
    "--version",
    type=click.IntRange(min=1),
    help="By default the challenger, or else the latest one.",
)
@click.option(
    "--gates", default="standard", show_default=True, help="The choice of conf/promotion/."
)
@click.option(
    "--as",
    "service",
    help="Let it serve under this registered name, where other kinds of models compete.",
)
@_REASON
@_ACTOR
def promote(
    name: str, version: int | None, *, gates: str, service: str | None, reason: str, actor: str
) -> None:
    """Make a version of the registered model NAME the champion if it passes every gate; exit 1 if
    not.

    \b
    flowsheet promote demo-lstm --reason "first model in service"
    flowsheet promote demo-gru --version 2 --as sepsis --reason "better in the comparison of May"
    """
    from flowsheet.cli import commands

    commands.promote(name, version, gates, service=service, reason=reason, actor=actor)


@cli.command()
@click.argument("name")
@_REASON
@_ACTOR
def rollback(name: str, reason: str, actor: str) -> None:
    """Make the former champion of the registered model NAME the champion again."""
    from flowsheet.cli import commands

    commands.rollback(name, reason, actor)


@cli.command()
@click.argument("model", metavar="NAME[/VERSION|@ALIAS]")
def card(model: str) -> None:
    """Print the model card of a registered version, as Markdown; of the champion where only NAME is
    given.

    \b
    flowsheet card demo-lstm > MODEL_CARD.md
    flowsheet card demo-lstm/3
    """
    from flowsheet.lifecycle.model_card.card import render_card

    click.echo(render_card(model), nl=False)


@cli.command("ls")
@click.argument("what")
def ls(what: str) -> None:
    """List WHAT there is: experiments, cohorts, models, sources, metrics, runs, registry, decisions and the like."""
    from flowsheet.cli import listing

    listing.show(what)


@cli.command()
@click.option("--mlflow-port", type=click.IntRange(1, 65535), default=5000, show_default=True)
@click.option("--prefect-port", type=click.IntRange(1, 65535), default=4200, show_default=True)
def ui(mlflow_port: int, prefect_port: int) -> None:
    """Serve the MLflow and Prefect pages on loopback until Ctrl-C."""
    from flowsheet.cli import ui as pages

    pages.serve(mlflow_port, prefect_port)


@cli.command()
@click.argument("model", metavar="NAME[@ALIAS]")
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Where to listen; loopback unless told."
)
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True)
@click.option(
    "--shadow", metavar="ALIAS", help="Let this alias's version score the same requests aside."
)
@click.option(
    "--poll-seconds", type=float, help="How often to ask whether the alias has moved [default: 10]."
)
@click.option("--max-body-bytes", type=int, help="Refuse larger requests [default: 8000000].")
@click.option("--max-rows", type=int, help="Refuse requests with more rows [default: 100000].")
@click.option("--max-stays", type=int, help="Refuse requests with more stays [default: 1000].")
@click.option("--max-steps", type=int, help="Refuse requests with more steps [default: 100000].")
def serve(model: str, **options: Any) -> None:
    """Serve the registered model NAME over HTTP: raw records in, a risk for every step out.

    ALIAS is champion unless told; when it moves, the server follows. The page /docs says what a
    request looks like.

    \b
    flowsheet serve demo-lstm
    flowsheet serve demo-lstm@champion --shadow challenger --port 8080
    """
    from flowsheet.cli import serving

    serving.serve(model, options)


def main(argv: list[str] | None = None) -> None:
    """Entry point: exit code 0, 1 for a failed check, 2 for wrong use."""
    try:
        cli.main(args=argv, prog_name="flowsheet", standalone_mode=False)
    except click.exceptions.Exit as done:
        raise SystemExit(done.exit_code) from None
    except click.ClickException as error:
        error.show()
        raise SystemExit(2) from None
    except (KeyboardInterrupt, click.Abort):
        click.echo("stopped", err=True)
        raise SystemExit(130) from None
    except BrokenPipeError:
        sys.stderr.close()
        raise SystemExit(0) from None
    except FlowsheetError as error:
        _say(error)
        raise SystemExit(error.exit_code) from None
    except Exception as error:
        raise SystemExit(_unexpected(error)) from None


def _say(error: FlowsheetError) -> None:
    kind = "usage" if isinstance(error, UsageError) else "error"
    click.echo(f"{click.style(kind, fg='red', bold=True)}: {mask_secrets(str(error))}", err=True)


def _unexpected(error: Exception) -> int:
    """Keep the traceback for whoever mends it, in a file; tell the user one line."""
    import traceback

    from flowsheet.state.home import home

    where: Any = None
    try:
        folder = home() / "logs"
        folder.mkdir(exist_ok=True)
        where = folder / "error.log"
        where.write_text(mask_secrets("".join(traceback.format_exception(error))))
    except (FlowsheetError, OSError):
        where = None
    reason = (
        error.strerror
        if isinstance(error, OSError) and error.strerror
        else str(error).split("\n", 1)[0]
    )
    _say(
        FlowsheetError(f"{type(error).__name__}: {reason}", todo=f"see {where}" if where else None)
    )
    return 1
