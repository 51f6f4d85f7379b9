"""``flowsheet ingest``, ``validate`` and ``simulate``: cohort extracts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from flowsheet.cli import options
from flowsheet.cli.completion import complete_choice

if TYPE_CHECKING:
    from flowsheet.cohort.extract import Extract
    from flowsheet.config import CohortConfig
    from flowsheet.state.locations import Location


@click.command()
@click.argument("cohort", shell_complete=complete_choice("cohort"))
@options.overrides
@options.conf
@click.option(
    "--out",
    type=options.LOCATION,
    help="Folder of the extract, or s3://BUCKET/NAME.  [default: the store in FLOWSHEET_HOME]",
)
@options.force
@options.workers("build batches of 1,000 stays of a database's raw tables")
def ingest(
    cohort: str,
    overrides: tuple[str, ...],
    *,
    out: Location | None,
    force: bool,
    workers: int,
    runner: str,
) -> None:
    """Build a validated cohort extract from COHORT (a file of conf/cohort/).

    A path before the first KEY=VALUE is cohort.path.

    \b
    flowsheet ingest physionet2019 training_setA.zip
    flowsheet ingest clif clif_tables/ cohort.options.time_zone=America/Chicago
    flowsheet ingest mimic3 mimic-iii/ --workers 4
    """
    from flowsheet.lifecycle.runtime.tuning import keep_freed_memory

    keep_freed_memory()  # before polars is imported

    from flowsheet.cli.console import print_extract
    from flowsheet.compose import compose_cohort
    from flowsheet.lifecycle.runtime.processes import interruptible

    config = compose_cohort(cohort, _name_path(overrides))
    with interruptible():
        if out:
            _write_extract(config, out, workers, runner, force=force)
        else:
            print_extract(_ingest(config, None, workers, runner))


def _ingest(config: CohortConfig, out: Path | None, workers: int, runner: str) -> Extract:
    """Ingest a cohort into a folder, or into the store.

    Args:
        config: the cohort.
        out: the folder; None: the store.
        workers: the most processes.
        runner: what starts them.
    """
    from flowsheet.cli.run import run_in_workers
    from flowsheet.cohort.extract import Extract
    from flowsheet.cohort.ingest import ingest, make_source
    from flowsheet.lifecycle.experiment.ingest_groups import is_worth_dividing
    from flowsheet.lifecycle.experiment.prepare import ingest_cohort, open_extract
    from flowsheet.progress import report

    if workers > 1 and is_worth_dividing(config):
        entrypoint = "flows.ingest_groups:ingest_in_workers"
        return Extract.open(run_in_workers(entrypoint, config, out, workers, runner))
    if out:
        return ingest(make_source(config), config, out, report)
    return open_extract(ingest_cohort(config, report))


def _name_path(overrides: tuple[str, ...]) -> tuple[str, ...]:
    """The overrides, with ``cohort.path=`` before a first one that is a path."""
    if overrides and ("=" not in overrides[0] or Path(overrides[0]).exists()):
        return (f"cohort.path={overrides[0]}", *overrides[1:])
    return overrides


@click.command()
@click.argument("extract", type=options.LOCATION)
@options.interruptible
@click.option(
    "--time-zone",
    help="Zone, such as Europe/Berlin, to whose local time zoned times of your own tables are "
    "converted.  [default: they are refused]",
)
@options.log_level
@options.as_json
def validate(extract: Location, *, time_zone: str | None, as_json: bool) -> None:
    """Check the cohort extract, or your own tables, in the folder EXTRACT; exit 1 if it fails.

    EXTRACT may be in an object store (s3://BUCKET/NAME).
    """
    from flowsheet.cli.console import print_failures, print_json, print_line
    from flowsheet.cohort.extract import check_extract
    from flowsheet.cohort.time_zones import check_time_zone
    from flowsheet.errors import CheckFailed, UsageError

    try:
        check_time_zone(time_zone)
    except ValueError as error:
        raise UsageError(str(error), where="--time-zone") from error
    if isinstance(extract, Path) and not extract.is_dir():
        raise UsageError("there is no such folder", where=str(extract), todo="fix EXTRACT")
    failures = check_extract(extract, time_zone)
    if as_json:
        rows = failures.rows(named=True)
        print_json({"path": str(extract), "valid": not rows, "failures": rows})
        what = f"{len(rows):,} failures"
        if rows:
            raise CheckFailed(what, where=str(extract), todo="fix the rows on standard output")
        return
    if failures.is_empty():
        has_no_manifest = isinstance(extract, Path) and not (extract / "manifest.json").is_file()
        what = "valid tables of a cohort extract" if has_no_manifest else "a valid cohort extract"
        print_line(f"{extract}: {what}")
        return
    print_failures(failures)
    what = f"{failures.height:,} failure{'s' * (failures.height > 1)}"
    raise CheckFailed(what, where=str(extract), todo="fix the rows listed above")


@click.command()
@click.argument("out", type=options.LOCATION)
@click.option("--stays", type=click.IntRange(min=1), help="How many ICU stays.")
@click.option("--seed", type=click.IntRange(min=0), help="Seed of the random patients.")
@click.option(
    "--cohort",
    default="simulated_icu",
    show_default=True,
    help="Name of a file of conf/cohort/ with the data-generating process.",
)
@click.option(
    "--as",
    "file_format",
    type=click.Choice(["extract", "mimic3", "mimic4", "clif", "meds"]),
    default="extract",
    show_default=True,
    help="A cohort extract, or raw tables in the format that the source of this name reads.",
)
@options.force
@options.overrides
@options.interruptible
def simulate(
    out: Location,
    *,
    stays: int | None,
    seed: int | None,
    cohort: str,
    file_format: str,
    force: bool,
    overrides: tuple[str, ...],
) -> None:
    """Write a simulated ward with a known data-generating process to the folder OUT.

    As a cohort extract, or as raw tables in the format of MIMIC-III, MIMIC-IV, CLIF or MEDS, with
    realistic data errors, of any size.

    \b
    flowsheet simulate ward --stays 500 cohort.options.max_steps=30
    flowsheet simulate raw --as mimic3 --stays 1000 raw.duplicates=0.01
    """
    from flowsheet.cli.simulate import check_overwritable, write_raw_records
    from flowsheet.compose import compose_cohort
    from flowsheet.errors import UsageError
    from flowsheet.progress import report
    from flowsheet.state.locations import local_path

    size_overrides = _size_overrides({"stays": stays, "seed": seed}, overrides)
    raw_overrides = [override for override in overrides if override.startswith("raw.")]
    cohort_overrides = [override for override in overrides if override not in raw_overrides]
    is_raw = file_format != "extract"
    if is_raw:
        folder = local_path(str(out), "the folder of raw tables")
        check_overwritable(folder, "truth/summary.json", "raw tables", force=force)
    elif raw_overrides:
        raise UsageError(
            f"{raw_overrides[0]!r} is for raw tables", todo="add --as mimic3, or leave it out"
        )
    config = compose_cohort(cohort, [*size_overrides, *cohort_overrides])
    if is_raw:
        write_raw_records(file_format, folder, config, raw_overrides, report)
    else:
        _write_extract(config, out, force=force)


def _size_overrides(sizes: dict[str, int | None], overrides: tuple[str, ...]) -> list[str]:
    """The options ``--stays`` and ``--seed`` as overrides.

    Raises:
        UsageError: an override sets the same value.
    """
    from flowsheet.errors import UsageError

    given = {f"cohort.options.{key}": value for key, value in sizes.items() if value is not None}
    for override in overrides:
        key = override.partition("=")[0]
        if key in given:
            option = f"--{key.rpartition('.')[2]}"
            raise UsageError(f"{option} and {key} set the same value", todo="leave one of them out")
    return [f"{key}={value}" for key, value in given.items()]


def _write_extract(
    config: CohortConfig,
    out: Location,
    workers: int = 1,
    runner: str = "process",
    *,
    force: bool,
) -> None:
    """Ingest a cohort into a folder or an object store, and print what it has.

    Args:
        config: the cohort.
        out: where to.
        workers: the most processes.
        runner: what starts them.
        force: whether an extract there is replaced.
    """
    from flowsheet.cli.console import print_extract, print_line
    from flowsheet.cli.simulate import check_overwritable
    from flowsheet.cohort.remote_extracts import check_free, upload_extract

    if isinstance(out, Path):
        check_overwritable(out, "manifest.json", "an extract", force=force)
        print_extract(_ingest(config, out, workers, runner))
        return
    check_free(out, force=force)
    extract = _ingest(config, None, workers, runner)
    upload_extract(extract.path, out)
    print_extract(extract)
    print_line(f"uploaded    {out}")
