"""``flowsheet init`` and ``new``: a project of one's own."""

from __future__ import annotations

from pathlib import Path

import click

from flowsheet.cli import options


@click.command()
@click.argument("folder", type=options.LOCAL_PATH)
def init(folder: Path) -> None:
    """Write a project to the new FOLDER: own experiments, models and sources, with tests.

    \b
    flowsheet init my-study
    cd my-study
    flowsheet run first
    """
    from flowsheet.lifecycle.scaffold.scaffold import init_project

    _print_files(init_project(folder))
    click.echo(f"next: cd {folder}; flowsheet run first; pytest", err=True)


@click.command()
@click.argument("kind", metavar="model|source|database|response|metric|experiment")
@click.argument("name")
def new(kind: str, name: str) -> None:
    """Write a new NAME of this project, with its test: a model, a source, a database, ...

    A source is code; a database is a YAML of tables that the engine of MIMIC reads.

    \b
    flowsheet new model my_model
    """
    from flowsheet.lifecycle.scaffold.scaffold import add_to_project

    _print_files(add_to_project(kind, name))


def _print_files(files: list[Path]) -> None:
    for file in files:
        click.echo(str(file))
