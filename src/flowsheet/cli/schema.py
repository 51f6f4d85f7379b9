"""``flowsheet schema``: the columns of a cohort extract, and empty tables to start from."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Literal, cast

import click

from flowsheet.cli import options


@click.command()
@click.option(
    "--templates",
    "folder",
    type=options.LocalPath(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write the four tables without rows to this folder.",
)
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["parquet", "csv"]),
    default="parquet",
    show_default=True,
    help="Of the templates. Flowsheet reads Parquet; csv is for other programs to fill.",
)
@options.as_json
def schema(folder: Path | None, file_format: str, as_json: bool) -> None:
    """Print the columns of a cohort extract: types, units, and which may be absent.

    Names and units of variables and drugs: flowsheet ls variables, flowsheet ls drugs.

    \b
    flowsheet schema
    flowsheet schema --templates my-tables
    """
    from flowsheet.cli.console import console, make_table, print_json, print_line
    from flowsheet.cohort.data_dictionary import list_columns, write_templates
    from flowsheet.errors import FlowsheetError

    if folder:
        try:
            kind = cast("Literal['parquet', 'csv']", file_format)
            written = write_templates(folder, kind)
        except FileExistsError as error:
            todo = "choose a folder without such files"
            raise FlowsheetError("the file exists already", str(error), todo) from None
        for file in written:
            print_line(str(file))
        return
    columns = list_columns()
    if as_json:
        print_json([asdict(column) for column in columns])
        return
    for table in dict.fromkeys(column.table for column in columns):
        rows = [
            [
                column.column,
                column.type,
                column.unit,
                "" if column.is_required else "optional",
                column.meaning,
            ]
            for column in columns
            if column.table == table
        ]
        console().print(make_table(table, ["column", "type", "unit", "", "meaning"], rows))
