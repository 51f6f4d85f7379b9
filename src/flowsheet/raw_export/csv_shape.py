"""MIMIC-III and MIMIC-IV: one CSV file a table."""

from __future__ import annotations

from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import ClassVar, Self

import polars as pl
import yaml

from flowsheet.cohort.schema import TIME
from flowsheet.raw_export.chart_events import ChartedRows
from flowsheet.raw_export.charted_rows import RowPart, split_rows
from flowsheet.raw_export.csv_files import CsvFiles, TableLayout
from flowsheet.raw_export.day_template import DayTemplate
from flowsheet.raw_export.dictionaries import make_dictionary_tables
from flowsheet.raw_export.options import ExportOptions
from flowsheet.raw_export.patients import Patients
from flowsheet.raw_export.shape import Shape

_QUOTED = ("VALUE", "VALUEUOM", "STOPPED")
"""Columns of charted rows that stand in quotation marks."""


class CsvShape(Shape):
    """Tables as CSV files; the contents of charted rows are formatted once and then joined."""

    layouts: ClassVar[str]
    """File of this package with the tables and their columns."""

    def __init__(self, folder: Path, options: ExportOptions) -> None:
        super().__init__(folder, options)
        self._layouts = _read_layouts(self.layouts)
        self._files = CsvFiles(folder, self._layouts.values(), compress=options.compress)
        self._formatted: dict[tuple[str, int, tuple[str, ...]], pl.Series] = {}
        self.n_rows = self._files.n_rows

    def __enter__(self) -> Self:
        self._files.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._files.__exit__(*exc)

    def table_name(self, table: str) -> str:
        """The file without its ending."""
        return self._layouts[table].file

    def add_charted(self, template: DayTemplate, patients: Patients, rows: ChartedRows) -> None:
        """Write the rows as lines that are joined of formatted parts."""
        layout = self._layouts[template.table]
        parts = split_rows(template, patients, rows)
        texts: list[pl.Series] = []
        for position, names in _group_columns(layout.values, parts):
            part = parts[position]
            contents = self._format(template, part, names)
            texts.append(contents.gather(part.position).alias(str(len(texts))))
        self._files.add_formatted(layout, pl.DataFrame(texts))

    def add_tables(self, tables: dict[str, pl.DataFrame]) -> None:
        """Write the rows of the tables that the database has."""
        for name, frame in tables.items():
            if name in self._layouts:
                self._files.add(self._layouts[name], frame)

    def finish(self) -> None:
        """Write the dictionaries of items."""
        self.add_tables(make_dictionary_tables())

    def _format(self, template: DayTemplate, part: RowPart, names: tuple[str, ...]) -> pl.Series:
        """The contents of a part as text with commas."""
        if not part.is_fixed:
            return _format_columns(part.contents, names)
        key = (template.table, template.system, names)
        if key not in self._formatted:
            self._formatted[key] = _format_columns(part.contents, names)
        return self._formatted[key]


class Mimic3Shape(CsvShape):
    """Raw tables of MIMIC-III 1.4."""

    title: ClassVar[str] = "MIMIC-III"
    has_error_flags: ClassVar[bool] = True
    layouts: ClassVar[str] = "mimic3.yaml"


class Mimic4Shape(CsvShape):
    """Raw tables of MIMIC-IV 3.1."""

    title: ClassVar[str] = "MIMIC-IV"
    layouts: ClassVar[str] = "mimic4.yaml"

    def finish(self) -> None:
        """Write the dictionaries, without the items of CareVue."""
        tables = make_dictionary_tables()
        items = tables["D_ITEMS"].filter(DBSOURCE="metavision")
        items = items.with_columns(pl.col("LINKSTO").str.strip_suffix("_mv"))
        self.add_tables(tables | {"D_ITEMS": items})


def _read_layouts(name: str) -> dict[str, TableLayout]:
    text = (files("flowsheet.raw_export") / name).read_text(encoding="utf-8")
    tables = yaml.safe_load(text)
    return {table: TableLayout.parse(**entry) for table, entry in tables.items()}


def _group_columns(
    names: tuple[str, ...], parts: list[RowPart]
) -> list[tuple[int, tuple[str, ...]]]:
    """Neighbouring columns of one part, with its position; empty columns go with the one before."""
    position = 0
    owners = []
    for name in names:
        position = next((i for i, part in enumerate(parts) if name in part.contents), position)
        owners.append((position, name))
    groups = groupby(owners, key=lambda owner: owner[0])
    return [(owner, tuple(name for _, name in group)) for owner, group in groups]


def _format_columns(contents: pl.DataFrame, names: tuple[str, ...]) -> pl.Series:
    cells = [_format_column(contents, name) for name in names]
    return contents.select(pl.concat_str(cells, separator=",")).to_series()


def _format_column(contents: pl.DataFrame, name: str) -> pl.Expr:
    if name not in contents:
        return pl.lit("")
    text = pl.col(name).cast(pl.String)
    if contents.schema[name] == TIME:
        text = text.str.slice(0, 19)
    if name in _QUOTED:
        text = '"' + text + '"'
    return text.fill_null("")
